//! S01 to S05: framing, paths and headers that two readers understand differently, in many
//! spellings, over raw sockets. Behind each request with odd framing stands one for `/smuggled`,
//! where a reader goes on that is wrong about it.

use std::collections::{BTreeMap, BTreeSet};

use super::fuzzed::{Received, Recorder, Seen, canonical, fold, latin, unlatin};
use crate::support::http::{Connection, request, send};
use crate::support::{Gateway, Setup};

const FRAMING_POLICIES: &str = "apis: { open: { base_path: /, upstream: api, public: true, \
    resources: { \"/{*rest}\": [GET, POST, PUT] } } }\n";

/// What must come of a request.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// Refused as no HTTP, or as too much of it: this status, the end of the connection, nothing
    /// upstream.
    Refuse(u16),
    /// Refused by the rules: HTTP all the same, and what stands behind it is a request of its own.
    Judge(u16),
    /// Served with this method and body; what stands behind it is a request of its own.
    Serve(&'static str, &'static str),
    /// Served like that, and the connection ends.
    Last(&'static str, &'static str),
    /// Its body has no end that all readers agree on: no answer but a refusal, and upstream at most
    /// its beginning.
    Break,
}

use Must::{Break, Judge, Last, Refuse, Serve};

/// What stands behind the case with this number.
fn behind(number: usize) -> String {
    format!("GET /smuggled-{number:03} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Puts the number into `/case`, and in the place of `<behind>`, `<length>` and `<size>` (in hex)
/// what stands behind.
fn fill(text: &str, number: usize) -> String {
    let behind = behind(number);
    text.replace("/case", &format!("/case-{number:03}"))
        .replace("<length>", &behind.len().to_string())
        .replace("<size>", &format!("{:x}", behind.len()))
        .replace("<behind>", &behind)
}

/// Each takes its number as it comes. A character of the text is a byte.
#[derive(Default)]
struct Cases(Vec<(String, Must)>);

impl Cases {
    fn add(&mut self, text: &str, must: Must) {
        self.0.push((fill(text, self.0.len()), must));
    }
}

/// Lengths that some reader takes for 5, for 0, or for something else.
const BAD_LENGTHS: &[&str] = &[
    "Content-Length: +5",
    "Content-Length: -1",
    "Content-Length: -0",
    "Content-Length: 0x5",
    "Content-Length: 0b101",
    "Content-Length: 5,5",
    "Content-Length: 5, 5",
    "Content-Length: 5, 6",
    "Content-Length: 5,",
    "Content-Length: ,5",
    "Content-Length: 5 5",
    "Content-Length: 5;",
    "Content-Length: 5;a=b",
    "Content-Length: 5.0",
    "Content-Length: 5e0",
    "Content-Length: 5_0",
    "Content-Length: \"5\"",
    "Content-Length: five",
    "Content-Length:",
    "Content-Length: \t ",
    "Content-Length: \u{b2}",
    "Content-Length: \u{d9}\u{a5}",
    "Content-Length: \u{a0}5",
    "Content-Length: \u{b}5",
    "Content-Length: \u{c}5",
    "Content-Length: 5\u{b}",
    "Content-Length: 5\0",
    "Content-Length: 0000000000000000005",
    "Content-Length: 9223372036854775808",
    "Content-Length: 18446744073709551616",
    "Content-Length: 18446744073709551621",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 0\r\ncontent-length: 5",
    "CONTENT-LENGTH: 5\r\nX: y\r\nContent-Length: 5",
    "Content-Length : 5",
    "Content-Length\t: 5",
    "Content-Length\u{b}: 5",
    "Content\0-Length: 5",
    "Content-Length",
    "Content-Length 5",
    "Content-Length: 5\r\n 6",
    "Content-Length:\r\n 5",
    "Content-Length:\n5",
    "Content-Length: 5\rX: y",
    "X: y\r\n Content-Length: 5",
    "X: y\nContent-Length: 5",
];

/// Codings that some reader takes for chunked, and another does not.
const BAD_CODINGS: &[&str] = &[
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked; a=b",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: deflate",
    "Transfer-Encoding: trailers",
    "Transfer-Encoding: cow",
    "Transfer-Encoding:",
    "Transfer-Encoding: \t",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: \u{c}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding: \0chunked",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chun\tked",
    "Transfer-Encoding: c hunked",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: chunked\u{ff}",
    "Transfer-Encoding: chun\u{e2}\u{84}\u{aa}ed",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\ntransfer-encoding: x",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding\u{b}: chunked",
    "Transfer\0-Encoding: chunked",
    "\u{0}Transfer-Encoding: chunked",
    "Transfer-Encoding chunked",
    "Transfer-Encoding: chunked\r\n , identity",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\nchunked",
    "Transfer-Encoding: chunked\rX: y",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    ": chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Content-Length: 0\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: <length>",
    "Transfer-Encoding: identity\r\nContent-Length: 5",
];

/// Framing that there is only one way to read: fields, what is sent, and the body that it is.
const GOOD_BODIES: &[(&str, &str, &str)] = &[
    ("Content-Length: 5", "hello", "hello"),
    ("Content-Length:5", "hello", "hello"),
    ("content-length:\t5 \t", "hello", "hello"),
    ("CONTENT-LENGTH: 05", "hello", "hello"),
    ("Content-Length: 000000000000000005", "hello", "hello"),
    ("Content-Length: 0", "", ""),
    ("Content-Length: <length>", "<behind>", "<behind>"),
    ("Connection: content-length, host\r\nContent-Length: <length>", "<behind>", "<behind>"),
    ("Expect: 100-continue\r\nContent-Length: <length>", "<behind>", "<behind>"),
    ("Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: <length>", "<behind>", "<behind>"),
    ("Transfer-Encoding: chunked", "0\r\n\r\n", ""),
    ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", "hello"),
    ("transfer-encoding:chunked", "5\r\nhello\r\n0\r\n\r\n", "hello"),
    ("TRANSFER-ENCODING:\tCHUNKED \t", "5\r\nhello\r\n0\r\n\r\n", "hello"),
    ("Transfer-Encoding: cHuNkEd", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
    ("Transfer-Encoding: chunked", "<size>\r\n<behind>\r\n0\r\n\r\n", "<behind>"),
    (
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
        "<size>\r\n<behind>\r\n0\r\n\r\n",
        "<behind>",
    ),
    (
        "Expect: 100-Continue\r\nTransfer-Encoding: chunked",
        "<size>\r\n<behind>\r\n0\r\n\r\n",
        "<behind>",
    ),
    ("Transfer-Encoding: chunked", "7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", "0\r\n\r\nGE"),
    ("Transfer-Encoding: chunked", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
    ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
    ("Transfer-Encoding: chunked", "000000000000005\r\nhello\r\n000\r\n\r\n", "hello"),
    ("Transfer-Encoding: chunked", "5;a\r\nhello\r\n0\r\n\r\n", "hello"),
    ("Transfer-Encoding: chunked", "5;a=b;c\r\nhello\r\n0;d\r\n\r\n", "hello"),
    ("Transfer-Encoding: chunked", "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n", "hello"),
    ("Transfer-Encoding: chunked", "5; a = b\r\nhello\r\n0\r\n\r\n", "hello"),
    // Trailers end here, whatever they say.
    ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: y\r\n\r\n", "hello"),
    ("Transfer-Encoding: chunked", "0\r\nX: \u{ff}\r\nY:\tz\r\n\r\n", ""),
    ("Transfer-Encoding: chunked", "0\r\nContent-Length: <length>\r\n\r\n", ""),
    ("Transfer-Encoding: chunked", "0\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    ("Transfer-Encoding: chunked", "0\r\nHost: b\r\n\r\n", ""),
    // To us these are names like any other: there is no body.
    ("Content_Length: <length>", "", ""),
    ("Content.Length: <length>", "", ""),
    ("Content-Length-: <length>", "", ""),
    ("-Content-Length: <length>", "", ""),
    ("Transfer_Encoding: chunked", "", ""),
    ("X-Transfer-Encoding: chunked", "", ""),
    ("Transfer-Encodin: chunked", "", ""),
];

/// Chunks that readers delimit differently.
const BAD_CHUNKS: &[&str] = &[
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "\t5\r\nhello\r\n0\r\n\r\n",
    "5 ;a\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-1\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5h\r\nhello\r\n0\r\n\r\n",
    "g\r\nhello\r\n0\r\n\r\n",
    "0_5\r\nhello\r\n0\r\n\r\n",
    "5,5\r\nhello\r\n0\r\n\r\n",
    "5.\r\nhello\r\n0\r\n\r\n",
    "\"5\"\r\nhello\r\n0\r\n\r\n",
    "\u{b2}\r\nhello\r\n0\r\n\r\n",
    "5\0\r\nhello\r\n0\r\n\r\n",
    "\x005\r\nhello\r\n0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "\n5\r\nhello\r\n0\r\n\r\n",
    "hello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\n\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\rhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello\r\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello\r\n\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "7\r\nhello\r\n0\r\n\r\n",
    "0000000000000005\r\nhello\r\n0\r\n\r\n",
    "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ";a\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5; \r\nhello\r\n0\r\n\r\n",
    "5;a=\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;\nxx\r\n<size>\r\n0\r\n\r\n",
    "5;\0\r\nhello\r\n0\r\n\r\n",
    "5;a[b\r\nhello\r\n0\r\n\r\n",
    "5;a\u{80}\r\nhello\r\n0\r\n\r\n",
    "5;a\u{7f}\r\nhello\r\n0\r\n\r\n",
    "0 \r\n\r\n",
    "0\n\r\n",
    "0\n\n",
    "0\r\n\n",
    "0\r\r\n",
    "0\r\n\rX",
    "0\r\n X: y\r\n\r\n",
    "0\r\n\tX: y\r\n\r\n",
    "0\r\nX: y\nZ: a\r\n\r\n",
    "0\r\nX: y\rZ\r\n\r\n",
    "0\r\nX: \0\r\n\r\n",
    "0\r\nX: y\r\n folded\r\n\r\n",
    "0\r\n\u{ff}: y\r\n\r\n",
];

/// Request lines that are none.
const BAD_LINES: &[&str] = &[
    "GET",
    "GET ",
    "GET /case",
    "GET  HTTP/1.1",
    "GET HTTP/1.1",
    " GET /case HTTP/1.1",
    "\tGET /case HTTP/1.1",
    "\0GET /case HTTP/1.1",
    "\u{ef}\u{bb}\u{bf}GET /case HTTP/1.1",
    "\rGET /case HTTP/1.1",
    "\nGET /case HTTP/1.1",
    "\r\nGET /case HTTP/1.1",
    "\r\n\r\nGET /case HTTP/1.1",
    "\n\nGET /case HTTP/1.1",
    "GET\t/case HTTP/1.1",
    "GET /case\tHTTP/1.1",
    "GET\t/case\tHTTP/1.1",
    "GET\u{b}/case\u{b}HTTP/1.1",
    "GET  /case HTTP/1.1",
    "GET /case  HTTP/1.1",
    "GET /case HTTP/1.1 ",
    "GET /case HTTP/1.1\t",
    "GET /case HTTP/1.1\0",
    "GET /case HTTP/1.1\r",
    "GET /case HTTP/1.1\nX: y",
    "GET /case HTTP/1.1\r X: y",
    "GET /case HTTP/1.1, HTTP/1.0",
    "GET /case HTTP/1.0 HTTP/1.1",
    "GET /case /case HTTP/1.1",
    "GET /case http/1.1",
    "GET /case Http/1.1",
    "GET /case HTTP/1.2",
    "GET /case HTTP/1.10",
    "GET /case HTTP/01.1",
    "GET /case HTTP/1.01",
    "GET /case HTTP/1",
    "GET /case HTTP/1.",
    "GET /case HTTP/.1",
    "GET /case HTTP/11",
    "GET /case HTTP/1,1",
    "GET /case HTTP/-1.1",
    "GET /case HTTP/0.9",
    "GET /case HTTP/2",
    "GET /case HTTP/2.0",
    "GET /case HTTP/3.0",
    "GET /case HTTP /1.1",
    "GET /case HTTP/ 1.1",
    "GET /case HTTPS/1.1",
    "GET /case XHTTP/1.1",
    "GET /case ICY/1.1",
    "PRI * HTTP/2.0",
    "G@T /case HTTP/1.1",
    "GET: /case HTTP/1.1",
    "GET, /case HTTP/1.1",
    "(GET) /case HTTP/1.1",
    "\"GET\" /case HTTP/1.1",
    "G\u{e4}T /case HTTP/1.1",
    "G\0T /case HTTP/1.1",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA /case HTTP/1.1",
    "GET case HTTP/1.1",
    "GET ?case HTTP/1.1",
    "GET #case HTTP/1.1",
    "GET \\case HTTP/1.1",
    "GET * HTTP/1.1",
    "POST * HTTP/1.1",
    "OPTIONS ** HTTP/1.1",
    "GET \u{ff}/case HTTP/1.1",
    "GET /case#x HTTP/1.1",
    "GET /case?x#y HTTP/1.1",
    "GET /case\0 HTTP/1.1",
    "GET /case\u{1f} HTTP/1.1",
    "GET /case\u{7f} HTTP/1.1",
    "GET /case\u{e4} HTTP/1.1",
    "GET /case\rx HTTP/1.1",
    "GET /case\nx HTTP/1.1",
    "GET /case% HTTP/1.1",
    "GET /case%0 HTTP/1.1",
    "GET /case%zz HTTP/1.1",
    "GET /case%0a HTTP/1.1",
    "GET /case%0d%0aX:%20y HTTP/1.1",
    "GET /case\" HTTP/1.1",
    "GET /case<a> HTTP/1.1",
    "GET /case| HTTP/1.1",
    "GET /case?a=\" HTTP/1.1",
    "GET /case?a b HTTP/1.1",
    "GET /case?\t HTTP/1.1",
    "GET /case?\u{e4} HTTP/1.1",
    "GET http://b/case HTTP/1.1",
    "GET http://a:80/case HTTP/1.1",
    "GET http://a./case HTTP/1.1",
    "GET http://u@a/case HTTP/1.1",
    "GET http://a@b/case HTTP/1.1",
    "GET http:///case HTTP/1.1",
    "GET http:/case HTTP/1.1",
    "GET http:case HTTP/1.1",
    "GET http://a\\case HTTP/1.1",
    "GET http://a?case HTTP/1.1",
    "GET http://a#/case HTTP/1.1",
    "GET http://a//case HTTP/1.1",
    "GET http://a/../case HTTP/1.1",
    "GET //a/case HTTP/1.1",
    "GET ftp://a/case HTTP/1.1",
    "GET a:80 HTTP/1.1",
];

/// Request lines with what must come of them.
const LINES: &[(&str, Must)] = &[
    ("GET /case HTTP/1.1", Serve("GET", "")),
    ("HEAD /case HTTP/1.1", Serve("HEAD", "")),
    ("POST /case HTTP/1.1", Serve("POST", "")),
    ("GET http://a/case HTTP/1.1", Serve("GET", "")),
    ("GET HTTP://A/case HTTP/1.1", Serve("GET", "")),
    ("GET https://a/case HTTP/1.1", Serve("GET", "")),
    ("GET /case?/../%2e%2e//\\;{|}^` HTTP/1.1", Serve("GET", "")),
    ("GET /case HTTP/1.0", Last("GET", "")),
    ("get /case HTTP/1.1", Judge(405)),
    ("Get /case HTTP/1.1", Judge(405)),
    ("GETT /case HTTP/1.1", Judge(405)),
    ("G!T /case HTTP/1.1", Judge(405)),
    ("trace /case HTTP/1.1", Judge(405)),
    ("connect /case HTTP/1.1", Judge(405)),
    ("DELETE /case HTTP/1.1", Judge(405)),
    ("OPTIONS /case HTTP/1.1", Judge(405)),
    ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA /case HTTP/1.1", Judge(405)),
    ("GET /case;x HTTP/1.1", Judge(400)),
    ("GET /case%2Fx HTTP/1.1", Judge(400)),
    ("GET /case%252e HTTP/1.1", Judge(400)),
    ("GET / HTTP/1.1", Judge(404)),
    ("GET http://a HTTP/1.1", Judge(404)),
    ("TRACE /case HTTP/1.1", Refuse(405)),
    ("CONNECT a HTTP/1.1", Refuse(405)),
    ("CONNECT /case HTTP/1.1", Refuse(405)),
    ("OPTIONS * HTTP/1.1", Refuse(404)),
];

/// Fields, Host among them, that make no head.
const BAD_FIELDS: &[&str] = &[
    "",
    "X: y\r\n",
    "Host: a\r\nHost: a\r\n",
    "Host: a\r\nHost: b\r\n",
    "Host: a\r\nHOST: a\r\n",
    "Host: a\r\nX: y\r\nhost:\r\n",
    "Host : a\r\n",
    " Host: a\r\n",
    "Host: a\r\n b\r\n",
    "Host:\r\n",
    "Host: \t \r\n",
    "Host: a/evil\r\n",
    "Host: a?b\r\n",
    "Host: a#b\r\n",
    "Host: a\\b\r\n",
    "Host: u@a\r\n",
    "Host: u:p@a\r\n",
    "Host: a b\r\n",
    "Host: a\tb\r\n",
    "Host: a,b\r\n",
    "Host: a, a\r\n",
    "Host: a;b\r\n",
    "Host: a:\r\n",
    "Host: a:port\r\n",
    "Host: a:80:80\r\n",
    "Host: a:99999\r\n",
    "Host: a:65536\r\n",
    "Host: a:-1\r\n",
    "Host: a:+80\r\n",
    "Host: a:000080\r\n",
    "Host: a:8\u{b2}\r\n",
    "Host: :80\r\n",
    "Host: ::1\r\n",
    "Host: [::1\r\n",
    "Host: ::1]\r\n",
    "Host: [::1]x\r\n",
    "Host: [::1]:x\r\n",
    "Host: [::g]\r\n",
    "Host: []\r\n",
    "Host: [1.2.3.4]\r\n",
    "Host: [v1.a]\r\n",
    "Host: [fe80::1%25eth0]\r\n",
    "Host: *\r\n",
    "Host: .\r\n",
    "Host: ..\r\n",
    "Host: %61\r\n",
    "Host: a%00\r\n",
    "Host: \u{e4}\r\n",
    "Host: \u{c3}\u{a4}\r\n",
    "Host: a\0\r\n",
    "Host: a\u{b}\r\n",
    "Host: a\u{7f}\r\n",
    "Host: http://a\r\n",
    "Host: //a\r\n",
    "Host: <a>\r\n",
    "Host: \"a\"\r\n",
    "Host: a\r\nX : y\r\n",
    "Host: a\r\nX\t: y\r\n",
    "Host: a\r\nX Y: z\r\n",
    "Host: a\r\n: y\r\n",
    "Host: a\r\n:\r\n",
    "Host: a\r\nno colon\r\n",
    "Host: a\r\nX\r\n",
    "Host: a\r\n X: y\r\n",
    "Host: a\r\nX: y\r\n z\r\n",
    "Host: a\r\nX: y\r\n\tz\r\n",
    "Host: a\r\nX: y\r\n \r\nZ: y\r\n",
    "Host: a\r\n \r\n",
    "Host: a\r\nX: a\rb\r\n",
    "Host: a\r\nX: a\nb\r\n",
    "Host: a\r\nX: a\n\r\n",
    "Host: a\r\nX: a\r\r\n",
    "Host: a\r\n\rX: a\r\n",
    "Host: a\r\n\nX: a\r\n",
    "Host: a\nX: a\r\n",
    "Host: a\rX: a\r\n",
    "Host: a\n",
    "Host: a\r",
    "Host: a\r\n\n",
    "Host: a\r\n\r",
    "Host: a\r\nX: \0\r\n",
    "Host: a\r\nX: a\0b\r\n",
    "Host: a\r\nX: \u{1}\r\n",
    "Host: a\r\nX: \u{8}\r\n",
    "Host: a\r\nX: \u{1b}[0m\r\n",
    "Host: a\r\nX: \u{7f}\r\n",
    "Host: a\r\n\0: y\r\n",
    "Host: a\r\nX\0: y\r\n",
    "Host: a\r\nX\u{7f}: y\r\n",
    "Host: a\r\nX\u{e4}: y\r\n",
    "Host: a\r\n\u{c3}\u{a4}: y\r\n",
    "Host: a\r\nX(: y\r\n",
    "Host: a\r\nX,Y: y\r\n",
    "Host: a\r\nX/Y: y\r\n",
    "Host: a\r\nX;Y: y\r\n",
    "Host: a\r\nX=Y: y\r\n",
    "Host: a\r\nX@Y: y\r\n",
    "Host: a\r\nX\\Y: y\r\n",
    "Host: a\r\n[X]: y\r\n",
    "Host: a\r\n{X}: y\r\n",
    "Host: a\r\n<X>: y\r\n",
    "Host: a\r\n\"X\": y\r\n",
    "Host: a\r\nExpect:\r\n",
    "Host: a\r\nExpect: 100\r\n",
    "Host: a\r\nExpect: continue\r\n",
    "Host: a\r\nExpect: 200-ok\r\n",
    "Host: a\r\nExpect: y 100-continue\r\n",
    "Host: a\r\nExpect: 100-continue;a\r\n",
    "Host: a\r\nExpect: \"100-continue\"\r\n",
    "Host: a\r\nExpect: 100-continue, 100-continue\r\n",
    "Host: a\r\nExpect: 100-continue\r\nExpect: y\r\n",
];

/// Fields, Host among them, of heads that are plain.
const GOOD_FIELDS: &[&str] = &[
    "Host: a\r\n",
    "hOsT:\ta \t\r\n",
    "Host: A.\r\n",
    "Host: a_b-c.d\r\n",
    "Host: a:80\r\n",
    "Host: a:0\r\n",
    "Host: a:00080\r\n",
    "Host: a:65535\r\n",
    "Host: 127.0.0.1\r\n",
    "Host: [::1]\r\n",
    "Host: [::1]:80\r\n",
    "Host: [::ffff:1.2.3.4]:1\r\n",
    "X: y\r\nHost: a\r\n",
    "Host: a\r\nX:\r\n",
    "Host: a\r\nX:y\r\n",
    "Host: a\r\nX: \t y \t \r\n",
    "Host: a\r\nX: a\tb\r\n",
    "Host: a\r\nX: \u{80}\u{e4}\u{ff}\r\n",
    "Host: a\r\nX: a:b: c\r\n",
    "Host: a\r\nX: y\r\nX: y\r\n",
    "Host: a\r\n!#$%&'*+-.^_`|~09azAZ: y\r\n",
    "Host: a\r\nCookie: a=1\r\nCookie: b=2\r\n",
    "Host: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    "Host: a\r\nExpect: 100-continue\r\n",
    "Host: a\r\nexpect: 100-Continue\r\nExpect: 100-continue\r\n",
    "Host: a\r\nConnection: host\r\n",
    "Host: a\r\nConnection: x, content-length, transfer-encoding\r\nX: y\r\n",
    "Host: a\r\nConnection: keep-alive\r\n",
    "Host: a\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=1\r\n",
    "Host: a\r\nUpgrade: foo\r\nConnection: upgrade\r\n",
    "Host: a\r\nUPGRADE: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade, \
        HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n",
    "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
        x\r\nSec-WebSocket-Version: 13\r\n",
    "Host: a\r\nX-HTTP-Method-Override: DELETE\r\n",
    "Host: a\r\nTE: trailers, chunked\r\nTrailer: Host\r\n",
];

/// Whole requests with what must come of them.
const WHOLE: &[(&str, Must)] = &[
    ("GET /case HTTP/1.1\nHost: a\n\n", Refuse(400)),
    ("GET /case HTTP/1.1\r\nHost: a\n\n", Refuse(400)),
    ("GET /case HTTP/1.1\nHost: a\r\n\r\n", Refuse(400)),
    ("GET /case HTTP/1.1\rHost: a\r\r", Refuse(400)),
    ("GET /case HTTP/1.1\r\nHost: a\r\n\r\r\n", Refuse(400)),
    ("GET /case HTTP/1.1\n\rHost: a\n\r\n\r", Refuse(400)),
    ("GET /case HTTP/1.1\r\n\r\nHost: a\r\n\r\n", Refuse(400)),
    ("GET /case HTTP/1.1\r\n Host: a\r\n\r\n", Refuse(400)),
    ("GET /case HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n", Refuse(400)),
    ("GET /case HTTP/1.0\r\n\r\n", Refuse(400)),
    ("GET /case HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Refuse(400)),
    ("GET /case HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", Last("GET", "")),
    ("PUT /case HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Last("PUT", "hello")),
    ("GET /case HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Last("GET", "")),
    ("GET /case HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", Last("GET", "")),
    (
        "PUT /case HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        Last("PUT", "hello"),
    ),
    // A body is one whatever the method is, and whether it is read or thrown away.
    (
        "GET /case HTTP/1.1\r\nHost: a\r\nContent-Length: <length>\r\n\r\n<behind>",
        Serve("GET", "<behind>"),
    ),
    ("HEAD /case HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Serve("HEAD", "hello")),
    ("DELETE /case HTTP/1.1\r\nHost: a\r\nContent-Length: <length>\r\n\r\n<behind>", Judge(405)),
    ("GET /case;x HTTP/1.1\r\nHost: a\r\nContent-Length: <length>\r\n\r\n<behind>", Judge(400)),
    (
        "DELETE /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \
            chunked\r\n\r\n<size>\r\n<behind>\r\n0\r\n\r\n",
        Refuse(405),
    ),
    (
        "DELETE /case HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: \
            5\r\n\r\nhello",
        Refuse(405),
    ),
    ("TRACE /case HTTP/1.1\r\nHost: a\r\nContent-Length: <length>\r\n\r\n<behind>", Refuse(405)),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n<behind>", Refuse(405)),
    ("PUT /case HTTP/1.1\r\nHost: a\r\nContent-Length: 10485761\r\n\r\n", Refuse(413)),
    ("PUT /case HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n", Refuse(413)),
    (
        "GET /case HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n<behind>",
        Refuse(413),
    ),
];

fn framing_cases() -> Cases {
    let mut cases = Cases::default();
    for fields in BAD_LENGTHS.iter().chain(BAD_CODINGS) {
        // As those would have it that read no body, five bytes, or chunks.
        for body in ["", "hello", "0\r\n\r\n"] {
            cases.add(
                &format!("POST /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"),
                Refuse(400),
            );
        }
    }
    for (fields, sent, body) in GOOD_BODIES {
        cases.add(
            &format!("POST /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{sent}"),
            Serve("POST", body),
        );
    }
    let chunked = "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    cases.add(&format!("POST /case HTTP/1.0\r\n{chunked}0\r\n\r\n"), Refuse(400));
    cases.add(
        &format!("POST /case HTTP/1.0\r\nConnection: keep-alive\r\n{chunked}0\r\n\r\n"),
        Refuse(400),
    );
    for chunks in BAD_CHUNKS {
        cases.add(&format!("POST /case HTTP/1.1\r\n{chunked}{chunks}"), Break);
    }
    let long = "a".repeat(17 * 1024);
    cases.add(&format!("POST /case HTTP/1.1\r\n{chunked}5;{long}\r\nhello\r\n0\r\n\r\n"), Break);
    cases.add(&format!("POST /case HTTP/1.1\r\n{chunked}0\r\nX: {long}\r\n\r\n"), Break);
    for line in BAD_LINES {
        cases.add(&format!("{line}\r\nHost: a\r\n\r\n"), Refuse(400));
    }
    for (line, must) in LINES {
        cases.add(&format!("{line}\r\nHost: a\r\n\r\n"), *must);
    }
    for fields in BAD_FIELDS {
        cases.add(&format!("GET /case HTTP/1.1\r\n{fields}\r\n"), Refuse(400));
    }
    for fields in GOOD_FIELDS {
        cases.add(&format!("GET /case HTTP/1.1\r\n{fields}\r\n"), Serve("GET", ""));
    }
    for (text, must) in WHOLE {
        cases.add(text, *must);
    }
    let get = |fields: &str| format!("GET /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (bytes, must) in [(31, Serve("GET", "")), (33, Refuse(431)), (64, Refuse(431))] {
        let long = "a".repeat(bytes * 1024);
        cases.add(&get(&format!("X: {long}\r\n")), must);
        cases.add(&get(&format!("X{long}: y\r\n")), must);
    }
    // Host is one of a hundred.
    for (count, must) in [(99, Serve("GET", "")), (100, Refuse(431)), (400, Refuse(431))] {
        cases.add(&get(&"X: y\r\n".repeat(count)), must);
    }
    // The number makes the path ten characters, with the question mark.
    for (query, must) in
        [(8192 - 10, Serve("GET", "")), (8193 - 10, Refuse(414)), (30_000, Refuse(414))]
    {
        cases.add(&format!("GET /case?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(query)), must);
    }
    cases
        .add(&format!("GET /case HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(253)), Serve("GET", ""));
    cases.add(&format!("GET /case HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(254)), Refuse(400));
    cases
}

/// Sends a case with what stands behind it, and looks at what is answered.
fn play(gateway: &Gateway, number: usize, text: &str, must: Must) {
    let mut connection = Connection::open(gateway.address);
    connection.write(&unlatin(&format!("{text}{}", behind(number))));
    let (statuses, ends) = match must {
        Refuse(status) => (vec![status], true),
        Judge(status) => (vec![status, 200], false),
        Serve(..) => (vec![200, 200], false),
        Last(..) => (vec![200], true),
        Break => (Vec::new(), true),
    };
    for status in statuses {
        let answer =
            connection.read(false).unwrap_or_else(|| panic!("no answer {status} to {text:?}"));
        assert_eq!(answer.status, status, "{text:?}: {answer:?}");
        assert!(status < 400 || answer.json()["decision_id"].is_string(), "{text:?}: {answer:?}");
    }
    if ends {
        let more =
            connection.read(false).filter(|answer| !matches!((must, answer.status), (Break, 400)));
        assert!(more.is_none(), "{text:?}: {more:?}");
    }
}

/// Method, path and body of what a case is upstream.
fn expected_upstream(number: usize, must: Must) -> Vec<(String, String, String)> {
    let own =
        |method: &str, body| (method.to_owned(), format!("/case-{number:03}"), fill(body, number));
    let next = ("GET".to_owned(), format!("/smuggled-{number:03}"), String::new());
    match must {
        Refuse(_) | Break => Vec::new(),
        Judge(_) => vec![next],
        Serve(method, body) => vec![own(method, body), next],
        Last(method, body) => vec![own(method, body)],
    }
}

/// The path without query, and the number in it.
fn numbered(received: &Received) -> (String, usize) {
    let path = received.target.split('?').next().unwrap();
    let number = path.strip_prefix("/case-").or_else(|| path.strip_prefix("/smuggled-"));
    let number = number.unwrap_or_else(|| panic!("nobody asked for this: {received:?}"));
    (path.to_owned(), number.parse().unwrap())
}

#[test]
fn whatever_frames_a_request_oddly_is_refused_or_ends_where_every_reader_ends_it() {
    let recorder = Recorder::start();
    let mut gateway = recorder.gateway(&Setup::new(FRAMING_POLICIES, "clients: {}\n"));
    let cases = framing_cases().0;
    for (number, (text, must)) in cases.iter().enumerate() {
        play(&gateway, number, text, *must);
    }
    assert_eq!(gateway.metric("scopegate_panics_total"), Some(0.0));
    let mut upstream: BTreeMap<usize, Vec<(String, String, String)>> = BTreeMap::new();
    for seen in recorder.end(&mut gateway) {
        match seen {
            Seen::Whole(received) => {
                let (path, number) = numbered(&received);
                upstream.entry(number).or_default().push((
                    received.method,
                    path,
                    latin(&received.body),
                ));
            }
            Seen::Part(received) => {
                let (path, number) = numbered(&received);
                let (text, must) = &cases[number];
                assert!(
                    matches!(must, Break) && path.starts_with("/case-"),
                    "{text:?}: {received:?}"
                );
                assert!(!latin(&received.body).contains("smuggled"), "{text:?}: {received:?}");
            }
            Seen::Wrong(why, bytes) => panic!("{why}: \"{}\"", bytes.escape_ascii()),
        }
    }
    for (number, (text, must)) in cases.iter().enumerate() {
        let got = upstream.remove(&number).unwrap_or_default();
        assert_eq!(got, expected_upstream(number, *must), "{text:?}");
    }
    let refused = cases.iter().filter(|(_, must)| matches!(must, Refuse(_) | Break)).count();
    println!("{} cases of framing, {refused} of them refused", cases.len());
    // Three digits number them.
    assert!((150..1_000).contains(&cases.len()) && refused >= 150, "{}", cases.len());
}

const PATH_POLICIES: &str = "apis:
  files:
    base_path: /
    upstream: api
    resources:
      \"/public/{*rest}\": { methods: [GET], public: true }
      \"/private/{*rest}\": [GET]
";

/// What some reader takes for a dot segment.
const DOTS: &[&str] = &[
    "..",
    ".",
    "...",
    "%2e%2e",
    "%2E%2e",
    ".%2e",
    "%2e.",
    "%2e",
    "%252e%252e",
    "%25%32%65%25%32%65",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "\u{c0}\u{ae}\u{c0}\u{ae}",
    "%ef%bc%8e%ef%bc%8e",
    "%u002e%u002e",
    "%%32%65%%32%65",
    "..;",
    "..;x=1",
    "..%3b",
    "%2e%2e%3Bx",
    "..%00",
    "%00..",
    "..%09",
    "..%20",
    "..\t",
    ".. ",
    "..?",
    "..#",
    "..%",
    // Trimmed, left out, normalised or decoded loosely by some servers.
    "..%20",
    "%20..",
    ".%20.",
    "...",
    "..%ff",
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a5",
    "%e2%80%a4%e2%80%a4",
    "..%e2%80%8b",
    "%ef%bb%bf..",
    "..%c2%a0",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%ed%a0%80..",
];

/// What some reader takes for a slash.
const SLASHES: &[&str] = &[
    "/",
    "//",
    "/./",
    "\\",
    "%2f",
    "%2F",
    "%5c",
    "%252f",
    "%255C",
    ";/",
    "/;/",
    "%c0%af",
    "\u{c0}\u{af}",
    "%e2%88%95",
    "%u2215",
    "%00/",
    "%ef%bc%8f",
    "%ef%bc%bc",
    "%e2%84%80",
    "%20/",
    "/%20",
];

/// What stands before, in the place of, and behind a name that the rules know.
const STARTS: &[&str] = &[
    "/",
    "//",
    "///",
    "/./",
    "/../",
    "/%2f",
    "/%5c",
    "/\\",
    "/;/",
    "/public/../",
    "/public/%2e%2e/",
    "/public/x/",
];
const NAMES: &[&str] = &[
    "private",
    "%70rivate",
    "p%72ivat%65",
    "%50rivate",
    "PRIVATE",
    "%2570rivate",
    "private;a=b",
    "private%3b",
    "private.",
    "private%2e",
    "private%20",
    "private%00",
    "private\0",
    "private%",
    "privat\u{e9}",
    "%ef%bd%90rivate",
];
const ENDS: &[&str] = &[
    "/x",
    "//x",
    "%2fx",
    "%5cx",
    "\\x",
    "/x/",
    "/",
    "",
    ";/x",
    "/x;y",
    "?/x",
    "/x?/public/x",
    "#/x",
];

/// Query and fragment, and paths hidden behind them or they behind paths.
const QUERIES: &[&str] = &[
    "/public/x?/../private/x",
    "/public/x?/../../private/x",
    "/public/?/../private/x",
    "/public/x?%2e%2e/%2e%2e/private/x",
    "/public/x?..%2f..%2fprivate/x",
    "/public/x?\\..\\private\\x",
    "/public/x?;/../../private/x",
    "/public/x??/private/x",
    "/public/x?a=/private/x&b=%00",
    "/public/x?%",
    "/public/x?{}|^`[]",
    "/public/x?a#/private/x",
    "/public/x?\"",
    "/public/x?<private>",
    "/public/x? /private/x",
    "/public/x?\t",
    "/public/x?\u{e9}",
    "/public/x#/../private/x",
    "/public/x%23/../private/x",
    "/public/x%3f/../private/x",
    "/public/%3F/private/x",
    "/public/..?/private/x",
    "/private/x?/../public/x",
    "/private/x?/public/x",
    "/private/x#/public/x",
    "/private/x%3F/public/x",
    "/private?/public/x",
    "/?/public/x",
    "/%3f/public/x",
    "/public/x?http://127.0.0.1/private/x",
    "/public/http://127.0.0.1/private/x",
    "/public/http:/private/x",
    "/public/x HTTP/1.1 /private/x",
    "/public/x%20HTTP/1.1%0d%0aX:%20y",
    "/public/@127.0.0.1/private/x",
    "/public/~private/x",
    "/public/%7eprivate/%2d%5F%41",
    "/public/a:b@c!$&'()*+,=",
    "/public/..private/...",
    "/public/private..",
];

/// Targets in origin form, no two the same.
fn targets() -> BTreeSet<String> {
    let mut targets: BTreeSet<String> = QUERIES.iter().map(ToString::to_string).collect();
    for dots in DOTS {
        for slash in SLASHES {
            targets.extend([
                format!("/{dots}{slash}private/x"),
                format!("/public{slash}{dots}{slash}private/x"),
                format!("/public/a{slash}{dots}{slash}{dots}{slash}private/x"),
                format!("/public/x{slash}{dots}"),
                format!("/private{slash}{dots}{slash}public/x"),
            ]);
        }
    }
    for start in STARTS {
        for name in NAMES {
            targets.extend(ENDS.iter().map(|end| format!("{start}{name}{end}")));
        }
    }
    for byte in 0..=u8::MAX {
        let raw = char::from(byte);
        targets.extend([
            format!("/{raw}private/x"),
            format!("/public/{raw}private/x"),
            format!("/public/x{raw}"),
            format!("/public/%{byte:02x}private/x"),
            format!("/public/..%{byte:02X}private/x"),
            format!("/private%{byte:02x}/x"),
        ]);
    }
    targets
}

/// What the rules say of a target that keeps this form; without a token.
fn status_of(canonical: Option<&str>) -> u16 {
    let Some(target) = canonical else { return 400 };
    let path = target.split('?').next().unwrap();
    let below = |start: &str| path.strip_prefix(start).is_some_and(|rest| !rest.is_empty());
    if below("/public/") {
        200
    } else if below("/private/") {
        401
    } else {
        404
    }
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let digits = path.get(at + 1..at + 3).filter(|_| byte == b'%').map(latin);
        if let Some(escaped) = digits.and_then(|digits| u8::from_str_radix(&digits, 16).ok()) {
            bytes.push(escaped);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    bytes
}

/// The first segment of a path as lax servers understand it: decoded never, once or twice, read as
/// Latin-1 or as UTF-8, overlong forms taken for what they stand for, what is no UTF-8 left out,
/// normalised, trimmed, backslashes taken for slashes, parameters cut off, empty segments left out,
/// dot segments resolved.
fn lax_readings(path: &str) -> Vec<String> {
    use unicode_normalization::UnicodeNormalization;
    let mut bytes = path.as_bytes().to_vec();
    let mut readings = Vec::new();
    for _ in 0..3 {
        let utf8 = String::from_utf8_lossy(&bytes).replace('\u{fffd}', "");
        let overlong = latin(&bytes)
            .replace("\u{c0}\u{ae}", ".")
            .replace("\u{c0}\u{af}", "/")
            .replace("\u{e0}\u{80}\u{ae}", ".");
        let normal: String = utf8.nfkc().collect();
        let visible = |c: &char| !"\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}".contains(*c);
        let trimmed = normal.chars().filter(visible).collect::<String>();
        let trimmed: Vec<&str> = trimmed.split('/').map(str::trim).collect();
        let texts = [latin(&bytes), overlong, normal.clone(), trimmed.join("/"), utf8];
        readings.extend(texts.iter().map(|text| first_segment(&text.replace('\\', "/"))));
        bytes = decoded(&bytes);
    }
    readings
}

/// The first segment once dot segments are resolved.
fn first_segment(text: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in
        text.split('/').map(|segment| segment.split([';', '\0']).next().unwrap_or_default())
    {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.first().map(|segment| segment.to_ascii_lowercase()).unwrap_or_default()
}

fn may_be_private(path: &str) -> bool {
    lax_readings(path).iter().any(|first| first == "private")
}

#[test]
fn no_spelling_of_a_path_reaches_what_it_means_to_a_lax_server_past_the_rule_for_that() {
    // The check can fail: these would be seen.
    for lax in [
        "/public/../private/x",
        "/public/%2e%2e/private/x",
        "/public/%252e%252e/private/x",
        "/public\\..;a\\private",
        "/public/%c0%ae%c0%ae/private/x",
        "/public/..%20/private/x",
        "/public/%ef%bc%8e%ef%bc%8e/private/x",
        "/public/%e2%80%a5/private/x",
        "/public/x%ef%bc%8f..%ef%bc%8f..%ef%bc%8fprivate/x",
        "/public/.%e2%80%8b./private/x",
        "/public/..%ff/private/x",
    ] {
        assert!(may_be_private(lax), "{lax}");
    }
    let recorder = Recorder::start();
    let mut gateway = recorder.gateway(&Setup::new(PATH_POLICIES, "clients: {}\n"));
    // In absolute form, too, a part of them.
    let mut variants: Vec<(String, String)> =
        targets().into_iter().map(|target| (target.clone(), target)).collect();
    let absolute: Vec<_> = variants.iter().step_by(9).map(|(_, target)| target.clone()).collect();
    variants
        .extend(absolute.into_iter().map(|target| (format!("http://127.0.0.1{target}"), target)));
    let mut expected = BTreeMap::new();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for (number, (sent, target)) in variants.iter().enumerate() {
        let canonical = canonical(&unlatin(target));
        let status = status_of(canonical.as_deref());
        let bytes = format!(
            "GET {sent} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Case: {number}\r\nConnection: \
                close\r\n\r\n"
        );
        let answer = send(gateway.address, unlatin(&bytes));
        assert_eq!(answer.status, status, "{sent:?}: {answer:?}");
        *statuses.entry(status).or_default() += 1;
        if let Some(canonical) = canonical.filter(|_| status == 200) {
            expected.insert(number.to_string(), canonical);
        }
    }
    for seen in recorder.end(&mut gateway) {
        let Seen::Whole(received) = &seen else { panic!("{seen:?}") };
        let path = received.target.split('?').next().unwrap();
        assert!(!may_be_private(path), "without a token: {received:?}");
        // What goes on is what was sent, but for escapes of unreserved characters and the case of
        // hex digits.
        let number = received.all("x-case").concat();
        assert_eq!(expected.remove(&number), Some(received.target.clone()), "{received:?}");
    }
    assert_eq!(expected, BTreeMap::new(), "what was served did not arrive");
    println!("{} paths: {statuses:?}", variants.len());
    assert!(variants.len() >= 500);
    assert!(
        [200_u16, 400, 401, 404]
            .iter()
            .all(|status| statuses.get(status).is_some_and(|count| *count >= 10))
    );
}

const SPOOF_POLICIES: &str = "apis:
  open: { base_path: /open, upstream: api, public: true, resources: { \"/{*rest}\": [GET, POST] } }
  api: { base_path: /api, upstream: api, resources: { \"/{*rest}\": [GET, POST] } }
auth_scopes: { read: { grants: [{ api: api }] } }
";
const SPOOF_CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read] } }\n";

/// Headers that an upstream believes because the gateway says them or nobody does.
const MANAGED: &[&str] = &[
    "x-auth-issuer",
    "x-auth-client",
    "x-auth-subject",
    "x-auth-scopes",
    "x-auth-roles",
    "x-auth-assertion",
    "x-decision-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "x-forwarded-user",
    "x-forwarded-client-cert",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-remote-user",
    "remote-user",
    "x-client-cert",
    "x-client-cert-chain",
    "x-client-cert-subject",
    "x-arr-clientcert",
    "client-cert",
    "client-cert-chain",
    "x-ssl-cert",
    "x-ssl-client-verify",
    "x-ssl-client-s-dn",
    "ssl-client-cert",
    "ssl-client-verify",
    "ssl-client-s-dn",
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-envoy-external-address",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "proxy",
];
/// Families of them, folded.
const FAMILIES: &[&str] =
    &["xforwarded", "xclientcert", "xssl", "sslclient", "xoriginal", "xrewrite", "xenvoy"];

fn is_managed(name: &str) -> bool {
    let folded = fold(name);
    MANAGED.iter().any(|managed| fold(managed) == folded)
        || FAMILIES.iter().any(|family| folded.starts_with(family))
}

/// Spellings of a name that are one to a reader somewhere.
fn aliases(name: &str) -> BTreeSet<String> {
    let title: Vec<String> =
        name.split('-').map(|part| part[..1].to_ascii_uppercase() + &part[1..]).collect();
    let (title, upper, snake) =
        (title.join("-"), name.to_ascii_uppercase(), name.replace('-', "_"));
    let mixed = name
        .char_indices()
        .map(|(at, letter)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter });
    BTreeSet::from([
        name.to_owned(),
        mixed.collect(),
        snake.to_ascii_uppercase(),
        title.replace('-', "_"),
        title.replacen('-', "_", 1),
        name.replace('-', "."),
        upper.replace('-', "."),
        name.replacen('-', "_", 1).replace('-', "."),
        name.replace('-', "--"),
        name.replace('-', "__"),
        name.replace('-', "-_"),
        name.replace('-', "._"),
        name.replace('-', ""),
        title.replace('-', ""),
        format!("-{name}"),
        format!("_{name}"),
        format!(".{name}"),
        format!("_{snake}"),
        format!("--{name}"),
        format!("{name}-"),
        format!("{name}_"),
        format!("{name}."),
        format!("{snake}__"),
        format!("_{title}_"),
        title,
        upper,
        snake,
    ])
}

/// A gateway with a public route and one that needs a token. Its client has no role, no request a
/// certificate.
struct Bench {
    recorder: Recorder,
    gateway: Gateway,
    token: String,
}

impl Bench {
    fn start() -> Self {
        let recorder = Recorder::start();
        let gateway = recorder.gateway(&Setup::new(SPOOF_POLICIES, SPOOF_CLIENTS));
        let token = gateway.token("app");
        Self { recorder, gateway, token }
    }

    /// Routes, each with the token that it needs.
    fn routes(&self) -> [(&'static str, Option<&str>); 2] {
        [("/open/x", None), ("/api/x", Some(self.token.as_str()))]
    }

    /// Sends a request that is served; what an upstream must believe of it is what the gateway says
    /// and nothing else.
    fn sees_through(&self, text: &str, with_token: bool) {
        assert_eq!(self.gateway.send(text).status, 200, "{text}");
        let seen = self.recorder.take(|_| true);
        let [Seen::Whole(received)] = &seen[..] else { panic!("{seen:?}") };
        let spoofed: Vec<_> =
            received.fields.iter().filter(|(_, value)| value == "admin").collect();
        assert!(spoofed.is_empty(), "{spoofed:?} of\n{text}");
        let mut genuine =
            vec!["xforwardedfor: 127.0.0.1", "xforwardedhost: 127.0.0.1", "xforwardedproto: http"];
        if with_token {
            // Without a role there is no header for roles.
            genuine.extend([
                "xauthclient: app",
                "xauthissuer: self",
                "xauthscopes: read",
                "xauthsubject: app",
            ]);
        }
        genuine.sort_unstable();
        let managed = received.fields.iter().filter(|(name, _)| is_managed(name));
        let mut managed: Vec<String> =
            managed.map(|(name, value)| format!("{}: {value}", fold(name))).collect();
        managed.sort_unstable();
        assert_eq!(managed, genuine, "{text}");
    }
}

#[test]
fn an_upstream_hears_who_calls_from_the_gateway_alone_however_the_headers_are_spelled() {
    let bench = Bench::start();
    let mut spoofs = 0;
    for name in MANAGED {
        let aliases = aliases(name);
        let list = aliases.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        for (path, token) in bench.routes() {
            let mut fields: Vec<(&str, &str)> =
                aliases.iter().map(|alias| (alias.as_str(), "admin")).collect();
            bench.sees_through(&request("GET", path, token, &fields), token.is_some());
            // What a client names as being for this hop takes nothing away that the gateway says.
            fields.push(("Connection", &list));
            bench.sees_through(&request("GET", path, token, &fields), token.is_some());
            bench.sees_through(
                &request("GET", path, token, &[("Connection", &list)]),
                token.is_some(),
            );
            spoofs += 2 * aliases.len();
        }
    }
    println!("{spoofs} headers that only the gateway may say");
    assert!(spoofs >= 200, "{spoofs}");
}

#[test]
fn trailers_say_nothing_that_only_the_gateway_may_say() {
    let bench = Bench::start();
    for name in MANAGED {
        let trailers: String =
            aliases(name).into_iter().map(|alias| alias + ": admin\r\n").collect();
        for (path, token) in bench.routes() {
            let credential =
                token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
            let text = format!(
                "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{credential}Transfer-Encoding: \
                    chunked\r\n\
                 Trailer: {name}\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"
            );
            bench.sees_through(&text, token.is_some());
        }
    }
}

#[test]
fn no_character_that_a_name_may_hold_hides_a_header_that_only_the_gateway_may_say() {
    let bench = Bench::start();
    for name in MANAGED {
        for (path, token) in bench.routes() {
            // What else a token may hold (RFC 9110 §5.6.2), beside letters, digits and what the
            // aliases above use.
            let spellings: Vec<String> = "!#$%&'*+^`|~"
                .chars()
                .flat_map(|mark| {
                    [
                        format!("{mark}{name}"),
                        format!("{name}{mark}"),
                        name.replace('-', &mark.to_string()),
                    ]
                })
                .collect();
            let fields: Vec<(&str, &str)> =
                spellings.iter().map(|name| (name.as_str(), "admin")).collect();
            bench.sees_through(&request("GET", path, token, &fields), token.is_some());
        }
    }
}
