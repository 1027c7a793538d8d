//! What the frames of an HTTP/2 connection say that the library above them does not pass on: a
//! fragment in a `:path`, which it cuts off, and pseudo-header fields in trailers, which it leaves
//! out.
//!
//! Reads frames (RFC 9113 §4.1) and header blocks (HPACK, RFC 7541)
//! in parallel with the library, and keeps
//! of the dynamic table only what that needs: sizes, and what kind of name an entry has.

mod hpack;
mod huffman;

use std::collections::VecDeque;

use self::hpack::{Reader, STATIC};

/// The preface of a client (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The head of a frame.
const FRAME_HEAD: usize = 9;
/// Largest dynamic table: the setting that we do not change (RFC 9113 §6.5.2).
const MAX_TABLE: usize = 4096;
/// What an entry of the table costs besides its texts (RFC 7541 §4.1).
const ENTRY: usize = 32;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame or header block that is malformed, or larger than is taken: the connection is of no
/// further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame or header block that is malformed or too large")]
pub struct FrameFault;

/// What was found in one head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The `:path` up to its fragment.
    Fragment(Vec<u8>),
    /// Trailers with a pseudo-header field (RFC 9113 §8.1).
    PseudoTrailer,
}

/// What kind of field an entry of the table is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Pseudo,
    /// A `:path`; with what is before its fragment, if it has one.
    Path(Option<Vec<u8>>),
}

#[derive(Clone, Debug)]
struct Entry {
    name_length: usize,
    size: usize,
    kind: Kind,
}

/// What is read next.
#[derive(Clone, Debug)]
enum Expect {
    /// Bytes that are looked at by nobody here, and then the head of a frame.
    Skip(usize),
    /// The head of a frame, as far as it is there.
    Head(Vec<u8>),
    /// A piece of a header block: bytes still to come, and the frame's flags.
    Block(usize, u8, Vec<u8>),
}

/// Watches one connection, from the preface of the client on.
#[derive(Clone, Debug)]
pub struct FrameWatch {
    expect: Expect,
    /// The block of a head whose end has not come.
    block: Vec<u8>,
    max_block: usize,
    stream: u32,
    /// The last stream that a head has opened: one on it or before it is trailers.
    last_stream: u32,
    table: VecDeque<Entry>,
    table_size: usize,
    max_table: usize,
}

impl FrameWatch {
    /// A connection that begins now; heads are taken up to `max_block` bytes as they are encoded.
    #[must_use]
    pub const fn new(max_block: usize) -> Self {
        Self {
            expect: Expect::Skip(PREFACE),
            block: Vec::new(),
            max_block,
            stream: 0,
            last_stream: 0,
            table: VecDeque::new(),
            table_size: 0,
            max_table: MAX_TABLE,
        }
    }

    /// Takes bytes as they come, and tells what was found in heads that end in them.
    ///
    /// # Errors
    /// The connection is of no further use.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<Finding>, FrameFault> {
        let mut findings = Vec::new();
        while !bytes.is_empty() {
            match &mut self.expect {
                Expect::Skip(left) => {
                    let count = (*left).min(bytes.len());
                    *left -= count;
                    bytes = bytes.get(count..).unwrap_or_default();
                    if *left == 0 {
                        self.expect = Expect::Head(Vec::new());
                    }
                }
                Expect::Head(head) => {
                    let count = (FRAME_HEAD - head.len()).min(bytes.len());
                    head.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    bytes = bytes.get(count..).unwrap_or_default();
                    if let Some(head) = head.first_chunk::<FRAME_HEAD>().copied() {
                        self.begin(head)?;
                        self.end_if_whole(&mut findings)?;
                    }
                }
                Expect::Block(left, _, piece) => {
                    let count = (*left).min(bytes.len());
                    *left -= count;
                    piece.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.end_if_whole(&mut findings)?;
                }
            }
        }
        Ok(findings)
    }

    fn begin(&mut self, head: [u8; FRAME_HEAD]) -> Result<(), FrameFault> {
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            if length > self.max_block {
                return Err(FrameFault);
            }
            if kind == HEADERS {
                self.stream = stream;
            }
            // What a frame of another kind says of padding and priority is not this one's.
            let flags = if kind == HEADERS { flags } else { flags & END_HEADERS };
            self.expect = Expect::Block(length, flags, Vec::with_capacity(length));
        } else {
            self.expect = if length == 0 { Expect::Head(Vec::new()) } else { Expect::Skip(length) };
        }
        Ok(())
    }

    /// Reads the block once its frame is whole and says that it is the last.
    fn end_if_whole(&mut self, findings: &mut Vec<Finding>) -> Result<(), FrameFault> {
        let Expect::Block(0, flags, piece) = &mut self.expect else { return Ok(()) };
        let (flags, piece) = (*flags, std::mem::take(piece));
        self.expect = Expect::Head(Vec::new());
        let mut piece = piece.as_slice();
        if flags & PADDED != 0 {
            let (padding, rest) = piece.split_first().ok_or(FrameFault)?;
            let length = rest.len().checked_sub(usize::from(*padding)).ok_or(FrameFault)?;
            piece = rest.get(..length).unwrap_or_default();
        }
        if flags & PRIORITY != 0 {
            piece = piece.get(5..).ok_or(FrameFault)?;
        }
        if self.block.len() + piece.len() > self.max_block {
            return Err(FrameFault);
        }
        self.block.extend_from_slice(piece);
        if flags & END_HEADERS != 0 {
            let block = std::mem::take(&mut self.block);
            let is_trailers = self.stream <= self.last_stream;
            self.last_stream = self.last_stream.max(self.stream);
            findings.extend(self.read(&block, is_trailers)?);
        }
        Ok(())
    }

    /// Reads one header block (RFC 7541 §6).
    fn read(&mut self, block: &[u8], is_trailers: bool) -> Result<Option<Finding>, FrameFault> {
        let (mut rest, mut found) = (Reader(block), None);
        while let Some(first) = rest.peek() {
            let kind = if first & 0x80 != 0 {
                let index = rest.integer(7)?;
                self.field(index)?.1
            } else if first & 0xe0 == 0x20 {
                let size = rest.integer(5)?;
                if size > MAX_TABLE {
                    return Err(FrameFault);
                }
                self.max_table = size;
                self.evict(0);
                continue;
            } else {
                let is_indexed = first & 0x40 != 0;
                let index = rest.integer(if is_indexed { 6 } else { 4 })?;
                let entry = self.literal(index, is_indexed, &mut rest)?;
                let kind = entry.kind.clone();
                if is_indexed {
                    self.add(entry);
                }
                kind
            };
            match kind {
                Kind::Pseudo | Kind::Path(_) if is_trailers => found = Some(Finding::PseudoTrailer),
                Kind::Path(Some(path)) => found = Some(Finding::Fragment(path)),
                Kind::Plain | Kind::Pseudo | Kind::Path(None) => {}
            }
        }
        Ok(found)
    }

    /// A literal field; its length counts only where it goes into the table.
    fn literal(
        &self,
        index: usize,
        is_indexed: bool,
        rest: &mut Reader<'_>,
    ) -> Result<Entry, FrameFault> {
        let (name_length, kind) = if index == 0 {
            let name = rest.string()?.text()?;
            let kind = match name.as_slice() {
                b":path" => Kind::Path(None),
                [b':', ..] => Kind::Pseudo,
                _ => Kind::Plain,
            };
            (name.len(), kind)
        } else {
            self.field(index)?
        };
        let value = rest.string()?;
        let (value_length, kind) = if let Kind::Path(_) = kind {
            let text = value.text()?;
            let fragment = text.iter().position(|byte| *byte == b'#');
            (text.len(), Kind::Path(fragment.and_then(|at| text.get(..at)).map(<[u8]>::to_vec)))
        } else if is_indexed {
            (value.length()?, kind)
        } else {
            (0, kind)
        };
        Ok(Entry { name_length, size: name_length + value_length + ENTRY, kind })
    }

    /// Length of the name, and kind, of a field of the static or dynamic table (RFC 7541 §2.3.3).
    fn field(&self, index: usize) -> Result<(usize, Kind), FrameFault> {
        if let Some(name) = index.checked_sub(1).and_then(|at| STATIC.get(at)) {
            let kind = match *name {
                ":path" => Kind::Path(None),
                name if name.starts_with(':') => Kind::Pseudo,
                _ => Kind::Plain,
            };
            return Ok((name.len(), kind));
        }
        let entry = index
            .checked_sub(STATIC.len() + 1)
            .and_then(|at| self.table.get(at))
            .ok_or(FrameFault)?;
        Ok((entry.name_length, entry.kind.clone()))
    }

    fn add(&mut self, entry: Entry) {
        self.evict(entry.size);
        // One that is larger than the whole table leaves it empty (RFC 7541 §4.4).
        if entry.size <= self.max_table {
            self.table_size += entry.size;
            self.table.push_front(entry);
        }
    }

    /// Makes room for an entry.
    fn evict(&mut self, size: usize) {
        while self.table_size + size > self.max_table
            && let Some(entry) = self.table.pop_back()
        {
            self.table_size -= entry.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::any;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// What is found in these frames behind a preface, in pieces of this size.
    fn found(frames: &[Vec<u8>], piece: usize) -> Result<Vec<Finding>, FrameFault> {
        let mut watch = FrameWatch::new(16 * 1024);
        let bytes = [vec![b'x'; PREFACE], frames.concat()].concat();
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            all.extend(watch.take(piece)?);
        }
        Ok(all)
    }

    fn text(huffman: bool, bytes: &[u8]) -> Vec<u8> {
        [&[u8::from(huffman) << 7 | u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    /// `/a#b`, with the code of RFC 7541 appendix B: 011000 00011 111111111010 100011.
    const HUFFMAN: [u8; 4] = [0b0110_0000, 0b0111_1111, 0b1111_0101, 0b0001_1111];

    #[test]
    fn a_fragment_is_found_in_every_encoding_of_a_path_however_the_frames_are_cut() {
        let raw = [vec![0x04], text(false, b"/a#b")].concat();
        let huffman = [vec![0x04], text(true, &HUFFMAN)].concat();
        let never = [vec![0x14], text(false, b"/a#b")].concat();
        let named = [vec![0x00], text(false, b":path"), text(true, &HUFFMAN)].concat();
        let indexed = [vec![0x44], text(true, &HUFFMAN)].concat();
        let fragment = Finding::Fragment(b"/a".to_vec());
        for block in [&raw, &huffman, &never, &named, &indexed] {
            let block = [&[0x82, 0x86][..], block].concat();
            for piece in [1, 2, 7, 1_000] {
                assert_eq!(
                    found(&[frame(1, 5, 1, &block)], piece),
                    Ok(vec![fragment.clone()]),
                    "{block:?}"
                );
                let (one, other) = block.split_at(3);
                let split = [frame(4, 0, 0, &[]), frame(1, 1, 1, one), frame(9, 4, 1, other)];
                assert_eq!(found(&split, piece), Ok(vec![fragment.clone()]));
                let padded = [&[2][..], &[0; 5], &block, &[0; 2]].concat();
                assert_eq!(found(&[frame(1, 0x2d, 1, &padded)], piece), Ok(vec![fragment.clone()]));
            }
        }
        // Out of the table, as often as it is named; and not any more once it has left it.
        let again = frame(1, 5, 3, &[0x82, 0x86, 0xbe]);
        let first = frame(1, 5, 1, &[&[0x82, 0x86][..], &indexed].concat());
        assert_eq!(
            found(&[first.clone(), again.clone()], 5),
            Ok(vec![fragment.clone(), fragment.clone()])
        );
        let emptied = frame(1, 5, 3, &[0x20, 0x82, 0xbe]);
        assert_eq!(found(&[first, emptied], 5), Err(FrameFault));
        // Elsewhere the byte is nobody's business.
        let other =
            [&[0x82, 0x84, 0x86, 0x40][..], &text(false, b"x"), &text(false, b"/a#b")].concat();
        assert_eq!(found(&[frame(1, 5, 1, &other), frame(0, 0, 1, b"#")], 3), Ok(vec![]));
    }

    #[test]
    fn pseudo_fields_are_found_in_trailers_alone() {
        let head = frame(1, 4, 1, &[0x82, 0x84, 0x86]);
        let trailer = |block: &[u8]| [head.clone(), frame(0, 0, 1, b"x"), frame(1, 5, 1, block)];
        let named = [&[0x00][..], &text(false, b":status"), &text(false, b"1")].concat();
        for block in [&[0x84][..], &[0x82], &[0x88], &named] {
            assert_eq!(found(&trailer(block), 4), Ok(vec![Finding::PseudoTrailer]), "{block:?}");
        }
        let plain = [&[0x00][..], &text(false, b"x-sum"), &text(false, b"1")].concat();
        assert_eq!(found(&trailer(&plain), 4), Ok(vec![]));
        assert_eq!(found(&[head, frame(1, 5, 3, &[0x82, 0x84, 0x86])], 4), Ok(vec![]));
    }

    #[test]
    fn what_is_malformed_or_too_large_is_a_fault() {
        let large = vec![0x82; 17 * 1024];
        for frames in [
            vec![frame(1, 5, 1, &[0x80])],
            vec![frame(1, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
            vec![frame(1, 5, 1, &[0x04, 0x05, b'/'])],
            vec![frame(1, 5, 1, &[0x04, 0x81, 0x00])],
            vec![frame(1, 5, 1, &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff])],
            vec![frame(1, 5, 1, &[0x3f, 0xe2, 0x1f])],
            vec![frame(1, 0xd, 1, &[9, 0x82])],
            vec![frame(1, 0x25, 1, &[0, 0, 0])],
            vec![frame(1, 5, 1, &large)],
            vec![frame(1, 1, 1, &large[..9_000]), frame(9, 0, 1, &large[..9_000])],
        ] {
            assert_eq!(found(&frames, 1_000), Err(FrameFault), "{:?}", frames[0].get(..20));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_comes_makes_it_fail_otherwise(
            blocks in vec(vec(any::<u8>(), 0..60), 1..20),
            piece in 1_usize..50,
        ) {
            let frames: Vec<Vec<u8>> = blocks.iter().map(|block| frame(1, 5, 1, block)).collect();
            let _ = found(&frames, piece);
        }
    }
}
