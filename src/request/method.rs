//! Methods: the closed set a policy can name.

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A method that resources can offer: those of the IANA registry of HTTP methods, without
        /// CONNECT, TRACE and the preface of HTTP/2. HEAD is judged as GET and stands in no rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Method {
            $($(#[$doc])* $variant,)*
        }

        impl Method {
            /// Every method, in the order of `Allow`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The method of a rule: case-sensitive, as on the wire (RFC 9110 §9.1).
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

methods! {
    /// GET (and HEAD).
    Get = "GET",
    /// POST.
    Post = "POST",
    /// PUT.
    Put = "PUT",
    /// PATCH.
    Patch = "PATCH",
    /// DELETE.
    Delete = "DELETE",
    /// OPTIONS, where a resource lists it.
    Options = "OPTIONS",
    /// QUERY: a safe request with a body (draft-ietf-httpbis-safe-method-w-body).
    Query = "QUERY",
    /// ACL (RFC 3744 §8.1).
    Acl = "ACL",
    /// BASELINE-CONTROL (RFC 3253 §12.6).
    BaselineControl = "BASELINE-CONTROL",
    /// BIND (RFC 5842 §4).
    Bind = "BIND",
    /// CHECKIN (RFC 3253 §4.4).
    Checkin = "CHECKIN",
    /// CHECKOUT (RFC 3253 §4.3).
    Checkout = "CHECKOUT",
    /// COPY (RFC 4918 §9.8).
    Copy = "COPY",
    /// LABEL (RFC 3253 §8.2).
    Label = "LABEL",
    /// LINK (RFC 2068 §19.6.1.2).
    Link = "LINK",
    /// LOCK (RFC 4918 §9.10).
    Lock = "LOCK",
    /// MERGE (RFC 3253 §11.2; OData 2 changes with it).
    Merge = "MERGE",
    /// MKACTIVITY (RFC 3253 §13.5).
    MkActivity = "MKACTIVITY",
    /// MKCALENDAR (RFC 4791 §5.3.1).
    MkCalendar = "MKCALENDAR",
    /// MKCOL (RFC 4918 §9.3).
    MkCol = "MKCOL",
    /// MKREDIRECTREF (RFC 4437 §6).
    MkRedirectRef = "MKREDIRECTREF",
    /// MKWORKSPACE (RFC 3253 §6.3).
    MkWorkspace = "MKWORKSPACE",
    /// MOVE (RFC 4918 §9.9).
    Move = "MOVE",
    /// ORDERPATCH (RFC 3648 §7).
    OrderPatch = "ORDERPATCH",
    /// PROPFIND (RFC 4918 §9.1).
    PropFind = "PROPFIND",
    /// PROPPATCH (RFC 4918 §9.2).
    PropPatch = "PROPPATCH",
    /// REBIND (RFC 5842 §6).
    Rebind = "REBIND",
    /// REPORT (RFC 3253 §3.6).
    Report = "REPORT",
    /// SEARCH (RFC 5323 §2).
    Search = "SEARCH",
    /// UNBIND (RFC 5842 §5).
    Unbind = "UNBIND",
    /// UNCHECKOUT (RFC 3253 §4.5).
    Uncheckout = "UNCHECKOUT",
    /// UNLINK (RFC 2068 §19.6.1.3).
    Unlink = "UNLINK",
    /// UNLOCK (RFC 4918 §9.11).
    Unlock = "UNLOCK",
    /// UPDATE (RFC 3253 §7.1).
    Update = "UPDATE",
    /// UPDATEREDIRECTREF (RFC 4437 §7).
    UpdateRedirectRef = "UPDATEREDIRECTREF",
    /// VERSION-CONTROL (RFC 3253 §3.5).
    VersionControl = "VERSION-CONTROL",
}

impl Method {
    /// The method a request line is judged as: HEAD as GET.
    #[must_use]
    pub fn judged(text: &str) -> Option<Self> {
        if text == "HEAD" { Some(Self::Get) } else { Self::parse(text) }
    }

    /// Whether it only reads (RFC 9110 §9.2.1, and the registry's column "safe").
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Options | Self::Query | Self::PropFind | Self::Report | Self::Search
        )
    }

    /// Position in [`Method::ALL`], for tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u64);

const _: () = assert!(Method::ALL.len() <= u64::BITS as usize, "one bit for each method");

impl MethodSet {
    /// Whether the method is in the set.
    #[must_use]
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method.index()) != 0
    }

    /// The set and one more.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | (1 << method.index()))
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many of its methods come before this one: the method's place in a list of the set.
    #[must_use]
    pub const fn rank(self, method: Method) -> usize {
        (self.0 & ((1 << method.index()) - 1)).count_ones() as usize
    }

    /// The methods of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The methods, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.iter().copied().filter(move |method| self.contains(*method))
    }

    /// The value of an `Allow` header; HEAD goes with GET.
    #[must_use]
    pub fn allow(self) -> String {
        let mut names = Vec::new();
        for method in self.iter() {
            names.push(method.as_str());
            if method == Method::Get {
                names.push("HEAD");
            }
        }
        names.join(", ")
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        methods.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_none_is_connect_or_trace() {
        for (at, method) in Method::ALL.iter().enumerate() {
            assert_eq!(Method::parse(method.as_str()), Some(*method));
            assert_eq!(method.index(), at);
        }
        for name in ["CONNECT", "TRACE", "HEAD", "PRI", "*", "get", "FOO", ""] {
            assert_eq!(Method::parse(name), None, "{name}");
        }
        assert_eq!(Method::judged("HEAD"), Some(Method::Get));
    }

    #[test]
    fn a_set_keeps_its_methods_in_order() {
        let set: MethodSet =
            [Method::VersionControl, Method::Merge, Method::Get].into_iter().collect();
        assert_eq!(set.allow(), "GET, HEAD, MERGE, VERSION-CONTROL");
        assert_eq!(
            [Method::Get, Method::Merge, Method::VersionControl].map(|m| set.rank(m)),
            [0, 1, 2]
        );
        assert!(!set.contains(Method::Post));
    }
}
