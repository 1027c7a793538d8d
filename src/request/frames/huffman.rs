//! The Huffman code of header blocks (RFC 7541 §5.2, appendix B).

use super::FrameFault;

/// Reads a Huffman code (RFC 7541 §5.2): a canonical one, so that the lengths of its codes say all.
pub(super) fn decode(bytes: &[u8], mut take: impl FnMut(u8)) -> Result<(), FrameFault> {
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = bytes.iter();
    loop {
        while count <= 32 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        if count == 0 {
            return Ok(());
        }
        let symbol = (5..=30.min(count)).find_map(|length| {
            let code = u32::try_from(bits >> (count - length) & ((1 << length) - 1)).ok()?;
            let group = CODE.get(length as usize)?;
            let at = code.checked_sub(group.first).filter(|at| *at < group.count)?;
            Some((length, *SYMBOLS.get((group.offset + at) as usize)?))
        });
        match symbol {
            Some((length, symbol)) => {
                take(u8::try_from(symbol).map_err(|_| FrameFault)?);
                count -= length;
                bits &= (1 << count) - 1;
            }
            // Padding: fewer than eight bits, all of them ones.
            None if count < 8 && bits == (1 << count) - 1 => return Ok(()),
            None => return Err(FrameFault),
        }
    }
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    count: u32,
    /// Where their symbols begin.
    offset: u32,
}

/// How long the code of each symbol is; the last one is the end of the string (RFC 7541 appendix
/// B).
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The codes by their length, and their symbols in order.
static CODE: [Group; 31] = table().0;
static SYMBOLS: [u16; 257] = table().1;

#[expect(clippy::indexing_slicing, reason = "counted below the lengths, at compile time")]
const fn table() -> ([Group; 31], [u16; 257]) {
    let mut groups = [Group { first: 0, count: 0, offset: 0 }; 31];
    let mut symbols = [0_u16; 257];
    let (mut length, mut code, mut at) = (1, 0_u32, 0_u32);
    while length <= 30 {
        groups[length] = Group { first: code, count: 0, offset: at };
        let mut symbol = 0_u16;
        while symbol < 257 {
            if LENGTHS[symbol as usize] as usize == length {
                symbols[at as usize] = symbol;
                groups[length].count += 1;
                code += 1;
                at += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    (groups, symbols)
}
