//! Number spaces that IANA may extend: named where we know the meaning, `Other` where we do not.

/// Declares an enum over a wire number that keeps unknown values, with conversions both ways and a `Display` that
/// names known values and prints the number of others.
macro_rules! codes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $repr:ty { $($(#[$vmeta:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $vis enum $name {
            $($(#[$vmeta])* $variant,)*
            /// A value without a name here, kept as it was received.
            Other($repr),
        }
        impl $name {
            /// The number on the wire.
            pub fn code(self) -> $repr {
                match self { $(Self::$variant => $code,)* Self::Other(raw) => raw }
            }
        }
        impl From<$repr> for $name {
            fn from(raw: $repr) -> Self {
                match raw { $($code => Self::$variant,)* other => Self::Other(other) }
            }
        }
        // By number, so that `Other(n)` built by hand equals the named variant of n.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool { self.code() == other.code() }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> { Some(self.cmp(other)) }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering { self.code().cmp(&other.code()) }
        }
        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) { self.code().hash(state); }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant => f.pad($text),)* Self::Other(raw) => write!(f, "{}({raw})", stringify!($name)) }
            }
        }
    };
}
pub(crate) use codes;
