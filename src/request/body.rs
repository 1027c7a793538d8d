//! Where a request's body ends, counted by the gateway itself: what comes after it is the next head
//! and nothing else.

use super::is_token_byte;

/// How the body of a request is delimited (RFC 9112 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunked (RFC 9112 §7.1).
    Chunked(Chunk),
}

/// Where in a chunked body the next byte stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In the size; the digits so far.
    Size(u64, u8),
    /// In an extension.
    Extension(Extension),
    /// After the CR that ends a size line.
    SizeEnd(u64),
    /// In the data; so many bytes left.
    Data(u64),
    /// After the data.
    DataCr,
    /// After the CR behind the data.
    DataLf,
    /// At the beginning of a trailer line, or of the last line.
    Trailer,
    /// In the name of a trailer field.
    TrailerName,
    /// In a trailer line.
    TrailerLine,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the last line.
    LastLf,
    /// Behind the last byte.
    End,
}

/// Where in the extensions of a chunk the next byte stands (RFC 9112 §7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// After a semicolon, before a name.
    Start,
    /// In a name.
    Name,
    /// After blanks behind a name.
    NameEnd,
    /// After the equals sign, before a value.
    Equals,
    /// In a value that is a token.
    Value,
    /// In a value that is a quoted string.
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    /// After a quoted string.
    ValueEnd,
    /// After blanks behind a value.
    Blank,
}

/// A chunk that two readers could delimit differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk that is not of the form of RFC 9112 §7.1")]
pub struct ChunkFault;

/// A piece of a body as it is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes it is, framing included.
    pub length: usize,
    /// Which of them are data.
    pub data: std::ops::Range<usize>,
}

/// Longest trailer section and longest extension taken, in bytes, together over one body.
const MAX_OVERHEAD: u64 = 16 * 1024;

/// The framing of one body with what of it has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    framing: Framing,
    size: u64,
    overhead: u64,
}

impl Body {
    /// A body of this many bytes.
    #[must_use]
    pub const fn of_length(length: u64) -> Self {
        Self { framing: Framing::Length(length), size: 0, overhead: 0 }
    }

    /// A chunked body.
    #[must_use]
    pub const fn chunked() -> Self {
        Self { framing: Framing::Chunked(Chunk::Size(0, 0)), size: 0, overhead: 0 }
    }

    /// Whether its last byte has been seen.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.framing, Framing::Length(0) | Framing::Chunked(Chunk::End))
    }

    /// How many of these bytes belong to the body; the rest belongs to what follows it.
    ///
    /// # Errors
    /// A chunk that is not exactly of its form. The connection is of no further use then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, ChunkFault> {
        let mut taken = 0;
        loop {
            let piece = self.next(bytes.get(taken..).unwrap_or_default())?;
            if piece.length == 0 {
                return Ok(taken);
            }
            taken += piece.length;
        }
    }

    /// The next piece of the body: its framing and the data behind that, as far as they are there.
    /// Nothing at its end, or without further bytes.
    ///
    /// # Errors
    /// As [`Body::take`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, ChunkFault> {
        match &mut self.framing {
            Framing::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                Ok(Piece { length, data: 0..length })
            }
            Framing::Chunked(_) => self.next_chunked(bytes),
        }
    }

    fn next_chunked(&mut self, bytes: &[u8]) -> Result<Piece, ChunkFault> {
        let mut at = 0;
        while let (Some(&byte), Framing::Chunked(chunk)) = (bytes.get(at), &mut self.framing) {
            if *chunk == Chunk::End {
                break;
            }
            if let Chunk::Data(left) = chunk {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                *left -= count as u64;
                if *left == 0 {
                    *chunk = Chunk::DataCr;
                }
                return Ok(Piece { length: at + count, data: at..at + count });
            }
            if matches!(chunk, Chunk::Extension(_) | Chunk::TrailerName | Chunk::TrailerLine) {
                self.overhead += 1;
                if self.overhead > MAX_OVERHEAD {
                    return Err(ChunkFault);
                }
            }
            *chunk = step(chunk, byte, &mut self.size)?;
            at += 1;
        }
        Ok(Piece { length: at, data: at..at })
    }
}

impl Extension {
    /// The state after one byte that does not end the line: `*( BWS ";" BWS name [ BWS "=" BWS (
    /// token / quoted-string ) ] )`.
    const fn step(self, byte: u8) -> Result<Self, ChunkFault> {
        Ok(match (self, byte) {
            (Self::Start, b' ' | b'\t')
            | (Self::Name | Self::NameEnd | Self::Value | Self::ValueEnd | Self::Blank, b';') => {
                Self::Start
            }
            (Self::Equals, b' ' | b'\t') | (Self::Name | Self::NameEnd, b'=') => Self::Equals,
            (Self::Name | Self::NameEnd, b' ' | b'\t') => Self::NameEnd,
            (Self::Value | Self::ValueEnd | Self::Blank, b' ' | b'\t') => Self::Blank,
            (Self::Quoted, b'"') => Self::ValueEnd,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Equals, b'"') | (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => {
                Self::Quoted
            }
            (Self::Start | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::Equals | Self::Value, _) if is_token_byte(byte) => Self::Value,
            _ => return Err(ChunkFault),
        })
    }

    /// Whether a line may end here. Not behind blanks: some readers take those for a part of what
    /// is before them.
    const fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::ValueEnd)
    }
}

/// The state after one byte outside the data. `size` keeps the chunk's size over its extension.
fn step(chunk: &Chunk, byte: u8, size: &mut u64) -> Result<Chunk, ChunkFault> {
    const MAX_DIGITS: u8 = 15;
    Ok(match (chunk, byte) {
        (Chunk::Size(value, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
            if *digits < MAX_DIGITS =>
        {
            let digit = u64::from(char::from(byte).to_digit(16).ok_or(ChunkFault)?);
            Chunk::Size(value << 4 | digit, digits + 1)
        }
        (Chunk::Size(value, 1..), b';') => {
            *size = *value;
            Chunk::Extension(Extension::Start)
        }
        (Chunk::Size(size, 1..), b'\r') => Chunk::SizeEnd(*size),
        (Chunk::Extension(extension), b'\r') if extension.may_end() => Chunk::SizeEnd(*size),
        (Chunk::Extension(extension), _) => Chunk::Extension(extension.step(byte)?),
        (Chunk::Trailer | Chunk::TrailerName, _) if is_token_byte(byte) => Chunk::TrailerName,
        (Chunk::TrailerName, b':') | (Chunk::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
            Chunk::TrailerLine
        }
        (Chunk::SizeEnd(0) | Chunk::TrailerLf, b'\n') => Chunk::Trailer,
        (Chunk::SizeEnd(size), b'\n') => Chunk::Data(*size),
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::Size(0, 0),
        (Chunk::Trailer, b'\r') => Chunk::LastLf,
        (Chunk::TrailerLine, b'\r') => Chunk::TrailerLf,
        (Chunk::LastLf, b'\n') => Chunk::End,
        _ => return Err(ChunkFault),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes a chunked body has, fed in pieces of this size.
    fn length(bytes: &[u8], piece: usize) -> Result<Option<usize>, ChunkFault> {
        let mut body = Body::chunked();
        let mut total = 0;
        for piece in bytes.chunks(piece) {
            let count = body.take(piece)?;
            total += count;
            if body.is_done() {
                return Ok(Some(total));
            }
            assert_eq!(count, piece.len());
        }
        Ok(None)
    }

    #[test]
    fn a_body_ends_where_its_framing_says_however_it_is_cut() {
        let chunked = b"5;a;b=c ; d = \"x\\\"y;\xe4\" \
            ;e\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n";
        let end = chunked.len() - "GET / HTTP/1.1\r\n".len();
        for piece in 1..chunked.len() {
            assert_eq!(length(chunked, piece), Ok(Some(end)), "{piece}");
        }
        let mut body = Body::of_length(5);
        assert_eq!((body.take(b"he"), body.is_done()), (Ok(2), false));
        assert_eq!((body.take(b"lloGET"), body.is_done()), (Ok(3), true));
        assert_eq!(body.take(b"GET"), Ok(0));
        assert!(Body::of_length(0).is_done());
    }

    #[test]
    fn the_data_of_a_body_is_what_is_not_framing_however_it_is_cut() {
        let chunked = b"5;a=b\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nx: y\r\n\r\nnext";
        for piece in 1..chunked.len() {
            let (mut body, mut data, mut rest) = (Body::chunked(), Vec::new(), Vec::new());
            for bytes in chunked.chunks(piece) {
                let mut bytes = bytes;
                loop {
                    let Piece { length, data: range } = body.next(bytes).unwrap();
                    data.extend_from_slice(&bytes[range]);
                    bytes = &bytes[length..];
                    if length == 0 {
                        break;
                    }
                }
                rest.extend_from_slice(bytes);
            }
            assert_eq!(
                (data.as_slice(), rest.as_slice()),
                (&b"hello world"[..], &b"next"[..]),
                "{piece}"
            );
        }
    }

    #[test]
    fn a_chunk_that_readers_delimit_differently_is_a_fault() {
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\n",
            "5\r\rhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5;a\nb\r\n",
            "1234567890abcdef\r\n",
            ";a\r\n",
            "0\r\n\n",
            "0\r\n\rX",
            "0\r\n x: y\r\n",
            "0\r\nno colon\r\n",
            "0\r\nX\r\n",
            "0\r\nX : y\r\n",
            "0\r\n: y\r\n",
            "0\r\nX: y\nZ: a\r\n",
            "5;\0\r\n",
            "5;\r\n",
            "5;a=\r\n",
            "5;bad[=x\r\n",
            "5;a=\"\r\n",
            "5;a=\"x\r\n",
            "5;a=\"x\\\"\r\n",
            "5;a\"\r\n",
            "5;a=b\"c\"\r\n",
            "5;a=\"x\"y\r\n",
            "5;a==b\r\n",
            "5;=b\r\n",
            "5;;a\r\n",
            "5;a b\r\n",
            "5;a=\"x\x01\"\r\n",
            "5;a=\"x\n\"\r\n",
            "5;a \r\n",
            "5;a=b \r\n",
            "5;a=\"b\" \r\n",
            "5;a\u{80}\r\n",
        ] {
            assert_eq!(length(bad.as_bytes(), 3), Err(ChunkFault), "{bad:?}");
        }
        let endless = format!("5;{}", "a".repeat(20_000));
        assert_eq!(length(endless.as_bytes(), 4_096), Err(ChunkFault));
        assert_eq!(length(b"5\r\nhel", 3), Ok(None));
    }
}
