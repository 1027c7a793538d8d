//! An upstream that keeps every byte it gets and answers as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \
    13\r\n\r\n{\"ok\": true}\r";

/// The upstream.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    requests: Mutex<Vec<Vec<u8>>>,
    answer: Mutex<Vec<u8>>,
    /// Taken before each answer: whoever holds it holds the answers up.
    turn: Mutex<()>,
}

impl Upstream {
    pub fn start() -> Self {
        // The backlog of the standard library's is 128: too short for a thousand requests at once.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(4096).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            requests: Mutex::default(),
            answer: Mutex::new(ANSWER.as_bytes().to_vec()),
            turn: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// One that nobody listens for.
    pub fn dead() -> Self {
        Self { address: super::free_address(), ..Self::start() }
    }

    /// Answers this from now on; an empty answer closes the connection.
    pub fn answer(&self, bytes: impl AsRef<[u8]>) {
        *self.state.answer.lock().unwrap() = bytes.as_ref().to_vec();
    }

    /// Holds answers up until the guard is dropped.
    pub fn hold(&self) -> impl Drop {
        let (state, (hold, held)) = (self.state.clone(), std::sync::mpsc::channel::<()>());
        let (ready, taken) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _turn = state.turn.lock().unwrap();
            ready.send(()).unwrap();
            let _ = held.recv();
        });
        taken.recv().unwrap();
        Held(hold)
    }

    /// Everything received, one entry for each request: head and body.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().map(|request| String::from_utf8_lossy(request).into_owned()).collect()
    }

    /// The same, as bytes.
    pub fn raw_requests(&self) -> Vec<Vec<u8>> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.state.requests.lock().unwrap().clear();
    }

    /// The last request's head, as lines.
    pub fn last_head(&self) -> Vec<String> {
        let request = self.requests().pop().expect("the upstream got a request");
        request.split("\r\n\r\n").next().unwrap().split("\r\n").map(str::to_owned).collect()
    }
}

/// Releases the answers when dropped.
struct Held(std::sync::mpsc::Sender<()>);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer) {
        state.requests.lock().unwrap().push(request);
        drop(state.turn.lock().unwrap());
        let answer = state.answer.lock().unwrap().clone();
        if answer.is_empty() || stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// One request by strict framing; anything left over when the connection ends counts as a request
/// too, so that smuggled bytes show.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = request_length(buffer) {
            return Some(buffer.drain(..length).collect());
        }
        let mut space = [0; 16 * 1024];
        match stream.read(&mut space) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&space[..count]),
            _ => return (!buffer.is_empty()).then(|| std::mem::take(buffer)),
        }
    }
}

fn request_length(buffer: &[u8]) -> Option<usize> {
    let head_end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
    let value = |name: &str| {
        head.split("\r\n").find_map(|line| {
            line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned())
        })
    };
    if value("transfer-encoding").is_some() {
        let body_end = buffer[head_end..].windows(5).position(|window| window == b"0\r\n\r\n")? + 5;
        return Some(head_end + body_end);
    }
    let length: usize = value("content-length").map_or(0, |value| value.parse().unwrap());
    (buffer.len() >= head_end + length).then_some(head_end + length)
}
