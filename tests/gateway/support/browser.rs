//! A browser as far as the pages need one: cookies, plain forms, redirects that it shows before it
//! follows them.

use std::net::SocketAddr;

use super::http::{Response, send};

/// One browser.
pub struct Browser {
    address: SocketAddr,
    pub cookie: Option<String>,
    /// Cookies of sign-ins at the provider under way.
    pub held: Vec<String>,
    /// Word of an earlier sign-in.
    pub device: Option<String>,
    /// Further header lines of every request.
    pub lines: String,
}

impl Browser {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, cookie: None, held: Vec::new(), device: None, lines: String::new() }
    }

    pub fn get(&mut self, target: &str) -> Response {
        let bytes = format!(
            "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{}\r\n",
            self.head()
        );
        self.exchange(bytes)
    }

    /// Sends a form to a target.
    pub fn post(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        let body = encode(fields);
        let bytes = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: \
                application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n{}\r\n{body}",
            body.len(),
            self.head()
        );
        self.exchange(bytes)
    }

    /// Fills in the form of a page and presses the button.
    pub fn submit(&mut self, page: &Response, act: &str, fields: &[(&str, &str)]) -> Response {
        assert_eq!(page.status, 200, "{page:?}");
        let token = form_token(page);
        let mut all = vec![("form_token", token.as_str()), ("act", act)];
        all.extend_from_slice(fields);
        self.post(&action(page), &all)
    }

    /// Signs in on a sign-in page and follows the redirect back.
    pub fn sign_in(&mut self, page: &Response, username: &str, password: &str) -> Response {
        let answer = self.submit(page, "login", &[("username", username), ("password", password)]);
        assert_eq!(answer.status, 303, "{answer:?}");
        self.get(answer.header("location").unwrap())
    }

    fn head(&self) -> String {
        let mut cookie = self
            .cookie
            .as_ref()
            .map_or_else(String::new, |cookie| format!("Cookie: other=x; {cookie}\r\n"));
        for held in self.held.iter().chain(&self.device) {
            cookie.push_str(&format!("Cookie: {held}\r\n"));
        }
        format!("{cookie}{}", self.lines)
    }

    fn exchange(&mut self, bytes: String) -> Response {
        let response = send(self.address, bytes);
        let set =
            response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        for (_, line) in set {
            for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
                assert!(line.contains(attribute), "{line}");
            }
            let pair = line.split(';').next().unwrap();
            if pair.contains("-login-") {
                let name = pair.split('=').next().unwrap();
                self.held.retain(|held| !held.starts_with(name));
                if !pair.ends_with('=') {
                    self.held.push(pair.to_owned());
                }
                continue;
            }
            if pair.contains("-device=") {
                self.device = Some(pair.to_owned());
                continue;
            }
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        response
    }
}

/// `application/x-www-form-urlencoded`.
pub fn encode(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The parameters of a redirect's URL.
pub fn parameters(response: &Response) -> std::collections::BTreeMap<String, String> {
    let location =
        response.header("location").unwrap_or_else(|| panic!("no redirect: {response:?}"));
    url::Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

/// The hidden field of a page's first form.
pub fn form_token(page: &Response) -> String {
    attribute(&page.body, "name=\"form_token\" value=\"")
}

fn action(page: &Response) -> String {
    attribute(&page.body, "action=\"")
        .replace("&amp;", "&")
        .replace("&#38;", "&")
        .replace("&#61;", "=")
}

fn attribute(body: &str, before: &str) -> String {
    let start = body.find(before).unwrap_or_else(|| panic!("no {before} in {body}")) + before.len();
    body[start..].split('"').next().unwrap().to_owned()
}
