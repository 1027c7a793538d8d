//! Methods: the closed set a policy can name.

/// A method that resources can offer. HEAD is judged as GET and stands in no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// GET (and HEAD).
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS, where a resource lists it.
    Options,
}

impl Method {
    /// Every method, in the order of `Allow`.
    pub const ALL: [Self; 6] =
        [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The method of a rule: case-sensitive, as on the wire (RFC 9110 §9.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => return None,
        })
    }

    /// The method a request line is judged as: HEAD as GET.
    #[must_use]
    pub fn judged(text: &str) -> Option<Self> {
        if text == "HEAD" { Some(Self::Get) } else { Self::parse(text) }
    }

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Position in [`Method::ALL`], for tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u8);

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

    /// The methods, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |method| self.contains(*method))
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
