//! Where a body ends: the same place however the bytes were cut, and the place where another reader
//! of the whole finds it.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use scopegate::request::body::{Body, ChunkFault};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((cut, bytes)) = bytes.split_first() else { return Corpus::Reject };
    let whole = length(bytes, bytes.len().max(1));
    assert_eq!(length(bytes, 1), whole, "byte by byte");
    assert_eq!(length(bytes, usize::from(*cut).max(1)), whole, "in pieces of {cut}");
    match (whole, by_another(bytes)) {
        (Ok(Some(end)), other) => assert_eq!(other, Some(end)),
        // A reader that takes less may refuse what another takes; what it must not do is to wait
        // for more than there is.
        (Err(ChunkFault), _) => {}
        (Ok(None), other) => assert_eq!(other, None, "whole to another reader"),
    }

    // A length is counted off, and not a byte more.
    let mut body = Body::of_length(u64::from(*cut));
    let first = body.take(bytes).expect("a length has no form to fault");
    assert_eq!(first, bytes.len().min(usize::from(*cut)));
    assert_eq!(body.is_done(), first == usize::from(*cut));
    if body.is_done() {
        assert_eq!(body.take(bytes), Ok(0));
    }
    Corpus::Keep
});

/// Where a chunked body ends, fed in pieces; `None` while it has not.
fn length(bytes: &[u8], piece: usize) -> Result<Option<usize>, ChunkFault> {
    let mut body = Body::chunked();
    let mut total = 0;
    for piece in bytes.chunks(piece) {
        assert!(!body.is_done());
        let count = body.take(piece)?;
        total += count;
        if body.is_done() {
            assert_eq!(body.take(b"0\r\n\r\n"), Ok(0), "nothing belongs to a body that is over");
            return Ok(Some(total));
        }
        assert_eq!(count, piece.len());
    }
    Ok(None)
}

/// RFC 9112 §7.1 over the whole: sizes by another parser, data by their length, trailers line by
/// line.
fn by_another(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((head, size)) =
            httparse::parse_chunk_size(bytes.get(at..)?).ok()?
        else {
            return None;
        };
        at += head;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let line = bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}
