//! A raw HTTP/1.1 client: sends the bytes it is given, reads one response.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::GUARD;

/// One response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header, if it occurs once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        value
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// `permit` for a 2xx, else the reason of the refusal.
    pub fn verdict(&self) -> String {
        if (200..300).contains(&self.status) {
            return "permit".to_owned();
        }
        self.json()["reason"].as_str().unwrap_or_else(|| panic!("no reason: {self:?}")).to_owned()
    }
}

/// A connection that can carry several requests.
pub struct Connection(TcpStream, Vec<u8>);

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Over a stream that is open.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream, Vec::new())
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // The gateway may answer and close before all is written; what it answered is still there
        // to be read.
        let _ = self.0.write_all(bytes);
    }

    /// One response; `None` when the connection ends without one.
    pub fn read(&mut self, head_only: bool) -> Option<Response> {
        let end = loop {
            if let Some(end) = find(&self.1, b"\r\n\r\n") {
                break end;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8(self.1.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        if status == 100 {
            return self.read(head_only);
        }
        let value = |name: &str| {
            headers
                .iter()
                .find(|(own, _)| own.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        let body = if head_only || status == 204 || status == 304 {
            Vec::new()
        } else if let Some(length) = value("content-length") {
            self.take(length.parse().unwrap())
        } else if value("transfer-encoding").is_some() {
            self.chunked()
        } else {
            while self.fill() {}
            std::mem::take(&mut self.1)
        };
        Some(Response { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// The answer behind interim ones.
    pub fn read_final(&mut self) -> Option<Response> {
        loop {
            let start = self.peek_status()?;
            let is_final = !(100..200).contains(&start) || start == 101;
            let response = self.read(!is_final)?;
            if is_final {
                return Some(response);
            }
        }
    }

    /// The status of the next response, which stays to be read.
    fn peek_status(&mut self) -> Option<u16> {
        while find(&self.1, b"\r\n").is_none() {
            if !self.fill() {
                return None;
            }
        }
        std::str::from_utf8(&self.1).ok()?.split(' ').nth(1)?.get(..3)?.parse().ok()
    }

    /// Whether the gateway closes the connection now.
    pub fn is_closed(&mut self) -> bool {
        !self.fill()
    }

    fn fill(&mut self) -> bool {
        let mut space = [0; 16 * 1024];
        match self.0.read(&mut space) {
            Ok(count) if count > 0 => {
                self.1.extend_from_slice(&space[..count]);
                true
            }
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading a response: {error}"),
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.1.len() < length && self.fill() {}
        self.1.drain(..length.min(self.1.len())).collect()
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.1, b"\r\n") {
                    Some(end) => break end,
                    None if self.fill() => {}
                    None => return body,
                }
            };
            let line = String::from_utf8(self.1.drain(..end + 2).collect()).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            body.extend(self.take(size));
            self.take(2);
            if size == 0 {
                return body;
            }
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Sends bytes on a connection of their own and reads one response.
pub fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    try_send(address, bytes).expect("a response")
}

/// The same; `None` when the connection ends without a response.
pub fn try_send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Response> {
    let bytes = bytes.as_ref();
    let mut connection = Connection::open(address);
    connection.write(bytes);
    connection.read(bytes.starts_with(b"HEAD "))
}

/// The same for a server that may go at any moment.
pub fn send_if_possible(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Response> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(GUARD)).ok()?;
    let mut connection = Connection(stream, Vec::new());
    connection.write(bytes.as_ref());
    connection.read(false)
}

/// Reads until the other end closes the connection, which it has to.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let (deadline, mut all, mut space) = (Instant::now() + GUARD, Vec::new(), [0; 16 * 1024]);
    while Instant::now() < deadline {
        match stream.read(&mut space) {
            Ok(count) if count > 0 => all.extend_from_slice(&space[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            _ => return all,
        }
    }
    panic!("the connection stays open");
}

/// A request without a body; `token` becomes the Authorization header.
pub fn request(method: &str, target: &str, token: Option<&str>, extra: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    if let Some(token) = token {
        text.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    for (name, value) in extra {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" || method == "PUT" || method == "PATCH" {
        text.push_str("Content-Length: 0\r\n");
    }
    text.push_str("\r\n");
    text
}

/// A form, as a token request sends it.
pub fn form(path: &str, extra: &[(&str, &str)], body: &str) -> String {
    let mut text = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: \
            application/x-www-form-urlencoded\r\n"
    );
    for (name, value) in extra {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

/// The server's side: head and body of one whole request; `None` when the connection ends before.
pub fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut space = [0; 4096];
    loop {
        match stream.read(&mut space) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&space[..count]),
            _ => return None,
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}
