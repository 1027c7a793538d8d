//! Header blocks (HPACK, RFC 7541): integers, strings, the static table.

use super::{FrameFault, huffman};

/// What is left of a header block.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// A string as it is encoded (RFC 7541 §5.2).
pub(super) struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn byte(&mut self) -> Result<u8, FrameFault> {
        let (first, rest) = self.0.split_first().ok_or(FrameFault)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer with a prefix of so many bits (RFC 7541 §5.1).
    pub(super) fn integer(&mut self, prefix: u32) -> Result<usize, FrameFault> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FrameFault)
    }

    pub(super) fn string(&mut self) -> Result<Text<'a>, FrameFault> {
        let huffman = self.peek().ok_or(FrameFault)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(FrameFault)?;
        self.0 = rest;
        Ok(Text { huffman, bytes })
    }
}

impl Text<'_> {
    pub(super) fn text(&self) -> Result<Vec<u8>, FrameFault> {
        if !self.huffman {
            return Ok(self.bytes.to_vec());
        }
        let mut text = Vec::with_capacity(self.bytes.len() * 8 / 5);
        huffman::decode(self.bytes, |byte| text.push(byte))?;
        Ok(text)
    }

    pub(super) fn length(&self) -> Result<usize, FrameFault> {
        let mut length = self.bytes.len();
        if self.huffman {
            length = 0;
            huffman::decode(self.bytes, |_| length += 1)?;
        }
        Ok(length)
    }
}

/// The names of the static table (RFC 7541 appendix A).
pub(super) const STATIC: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];
