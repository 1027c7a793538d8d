//! W3C Trace Context (Level 1): which trace a request belongs to, and whether it is recorded.

/// The field that names trace and span.
pub const TRACEPARENT: &str = "traceparent";
/// The field that tracing systems keep their own words in.
pub const TRACESTATE: &str = "tracestate";
/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// The trace is recorded by who sends this (§3.2.2.5.1).
const SAMPLED: u8 = 1;
/// The trace id is random, so that its last bits can be sampled by (Level 2, §3.2.2.5.2).
const RANDOM: u8 = 2;
/// Longest `tracestate` that is kept: as much as everybody has to hand on (§3.3.1.5).
const MAX_STATE: usize = 512;
/// Bits of a trace id that are sampled by: its last seven bytes.
const RANDOM_BITS: u32 = 56;

/// A span and the trace it is in, as one party tells the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace: u128,
    /// The span of who sends it; never 0.
    pub span: u64,
    flags: u8,
}

impl TraceParent {
    /// A span of a trace of our own.
    #[must_use]
    pub fn new(trace: u128, span: u64, is_sampled: bool) -> Self {
        Self { trace: trace.max(1), span: span.max(1), flags: u8::from(is_sampled) }
    }

    /// Reads a `traceparent` (§3.2). Of a later version what is known of it is read (§4.3).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let mut part = |digits| number(parts.next().filter(|part| part.len() == digits)?);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_known = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags).ok()?);
        let flags = flags & (SAMPLED | RANDOM);
        (is_known && trace != 0 && span != 0).then_some(Self { trace, span, flags })
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Its flags, as OTLP has them too.
    #[must_use]
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// The `traceparent`, of version 00.
    #[must_use]
    pub fn text(self) -> [u8; LENGTH] {
        let mut text = [b'-'; LENGTH];
        let parts = [
            (0, 2, 0),
            (3, 32, self.trace),
            (36, 16, u128::from(self.span)),
            (53, 2, u128::from(self.flags)),
        ];
        for (start, digits, value) in parts {
            let part = text.get_mut(start..start + digits).unwrap_or_default();
            for (at, place) in part.iter_mut().rev().enumerate() {
                *place = digit(value >> (4 * at));
            }
        }
        text
    }
}

/// The last four bits of a number as a digit: written one by one, because formatting costs more
/// than a decision.
fn digit(value: u128) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let place = usize::try_from(value & 15).unwrap_or(0);
    DIGITS.get(place).copied().unwrap_or(b'0')
}

/// A number of lower-case digits, at most 32 of them.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The lines of a `tracestate` as one (§3.3.1.3); none if they are too long, or no visible text.
#[must_use]
pub fn joined_state<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Box<str>> {
    let mut state = String::new();
    for line in lines {
        let line = std::str::from_utf8(line).ok()?;
        let is_visible = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_visible || state.len() + line.len() >= MAX_STATE {
            return None;
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(line);
    }
    (!state.is_empty()).then(|| state.into())
}

/// Which share of traces is recorded. The same traces are by everybody who has the same share, and
/// all of them by those with a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Traces whose last bits are lower than this are not recorded.
    threshold: u64,
}

impl Share {
    /// A share of all, from 0 to 1.
    #[must_use]
    pub fn of(ratio: f64) -> Self {
        let all = 1_u64 << RANDOM_BITS;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "56 bits of which doubles have 53: the share is off by less than 1 in 10^15"
        )]
        let left_out = ((1.0 - ratio.clamp(0.0, 1.0)) * all as f64) as u64;
        Self { threshold: left_out }
    }

    /// Whether a trace is in it.
    #[must_use]
    pub fn has(self, trace: u128) -> bool {
        let last = trace & ((1 << RANDOM_BITS) - 1);
        last >= u128::from(self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_back() {
        let parent = TraceParent::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(parent.span, 0x00f0_67aa_0ba9_02b7);
        assert!(parent.is_sampled());
        assert_eq!(std::str::from_utf8(&parent.text()).unwrap(), PARENT);
        let child = parent.child(10);
        assert_eq!(
            std::str::from_utf8(&child.text()).unwrap(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000a-01"
        );
        let not = TraceParent::parse(PARENT.replace("-01", "-00").as_bytes()).unwrap();
        assert!(!not.is_sampled() && not.trace == parent.trace);
        // Of the flags those two that mean something to us (§3.2.2.5, and Level 2).
        let all = TraceParent::parse(PARENT.replace("b7-01", "b7-ff").as_bytes()).unwrap();
        assert_eq!(all.flags(), 3);
        // Of a later version the part that is known.
        for later in ["cc", "01", "fe"] {
            let text = PARENT.replacen("00", later, 1);
            assert_eq!(TraceParent::parse(text.as_bytes()), Some(parent));
            assert_eq!(TraceParent::parse(format!("{text}-more").as_bytes()), Some(parent));
            assert_eq!(TraceParent::parse(format!("{text}more").as_bytes()), None);
        }
    }

    #[test]
    fn whatever_is_no_traceparent_is_none() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = PARENT.replace("00f067aa0ba902b7", "0000000000000000");
        for wrong in [
            "",
            "00",
            "00-1-2-01",
            &PARENT[1..],
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}-00"),
            &format!(" {PARENT}"),
            &PARENT.to_uppercase(),
            &PARENT.replace('-', "_"),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("4bf9", "4bg9"),
            &PARENT.replace("4bf9", "4b-9"),
            &PARENT.replace("-01", "-0x"),
            &PARENT.replace("4bf92", "+4bf9"),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(TraceParent::parse(&[0xff; LENGTH]), None);
    }

    #[test]
    fn a_share_has_the_traces_of_every_smaller_one_and_as_many_as_it_says() {
        let last = (1_u128 << RANDOM_BITS) - 1;
        for trace in [0, 1, last / 2, last, 1 << 100, u128::MAX] {
            assert!(Share::of(1.0).has(trace), "{trace:x}");
            assert!(!Share::of(0.0).has(trace), "{trace:x}");
        }
        // Ids at even distances: as many of them are in it as the share says, to one.
        let ids = || (0..10_000_u128).map(|at| (7 << 64) | (at * (last / 10_000)));
        let taken = |ratio| ids().filter(|id| Share::of(ratio).has(*id)).count();
        for (ratio, many) in [(0.0, 0), (0.01, 100), (0.25, 2_500), (0.999, 9_990), (1.0, 10_000)] {
            assert!(taken(ratio).abs_diff(many) <= 1, "{ratio}: {}", taken(ratio));
        }
        assert!(ids().filter(|id| Share::of(0.1).has(*id)).all(|id| Share::of(0.2).has(id)));
    }

    #[test]
    fn a_tracestate_is_one_line_of_bounded_length() {
        let joined = |lines: &[&str]| joined_state(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["a=1,b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(joined(&["a=1", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(joined(&["a=\u{e4}"]), None);
        assert_eq!(joined(&["a=1\t"]), None);
        assert_eq!(joined(&[&"x".repeat(MAX_STATE)]), None);
        assert_eq!(joined(&["x"; MAX_STATE]), None);
    }
}
