//! Distinguished names: read from DER or text, compared as RFC 5280 §7.1 has it.

use std::{fmt, hash, str::FromStr};

use x509_cert::{
    attr::AttributeTypeAndValue,
    der::{
        Decode, Encode, Tag, Tagged,
        asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef},
    },
    name::Name,
};

/// id-at-organizationalUnitName
const ORGANIZATIONAL_UNIT: &str = "2.5.4.11";

/// A name as it was encoded, and in a form that can be compared: CAs encode the same text as different string types
/// and in different case, and all of them mean the same subject.
#[derive(Clone)]
pub struct DistinguishedName {
    der: Vec<u8>,
    text: String,
    comparable: Vec<Vec<(String, String)>>,
}

/// Not a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a distinguished name ({0}); expected one like CN=edge1.example.net,O=Example,C=CH (RFC 4514)")]
pub struct DnError(String);

impl DistinguishedName {
    /// Reads the DER of a Name.
    pub fn from_der(der: &[u8]) -> Result<Self, DnError> {
        let name = Name::from_der(der).map_err(|error| DnError(error.to_string()))?;
        Ok(Self::build(&name, der.to_vec()))
    }

    fn build(name: &Name, der: Vec<u8>) -> Self {
        let comparable = name.iter_rdn().map(|rdn| {
            let mut attributes: Vec<_> = rdn.iter().map(comparable).collect();
            attributes.sort(); // an RDN is a set
            attributes
        });
        // Control characters are written as escapes by the formatter of each attribute.
        Self { der, text: name.to_string(), comparable: comparable.collect() }
    }

    /// Whether it has this organizational unit, compared without case and runs of spaces.
    pub fn has_unit(&self, unit: &str) -> bool {
        let wanted = folded(unit);
        self.comparable.iter().flatten().any(|(oid, value)| oid == ORGANIZATIONAL_UNIT && *value == wanted)
    }

    /// The name's DER, as it was received or as our text encodes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

fn comparable(attribute: &AttributeTypeAndValue) -> (String, String) {
    let value = &attribute.value;
    let text = match value.tag() {
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str()),
        _ => None,
    };
    let value = match text {
        // Case and runs of spaces do not matter (caseIgnoreMatch, RFC 4518).
        Some(text) => folded(text),
        // "#" cannot begin a comparable text that came from the same octets as other types.
        None => value.value().iter().fold(format!("#{}", value.tag()), |hex, octet| format!("{hex}{octet:02x}")),
    };
    (attribute.oid.to_string(), value)
}

fn folded(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

impl FromStr for DistinguishedName {
    type Err = DnError;

    /// Parts separated by commas, blanks around them ignored. RFC 4514 puts the most specific part first, OpenSSL and
    /// strongSwan put it last: a common name or user ID at the end alone tells that it is the latter.
    fn from_str(text: &str) -> Result<Self, DnError> {
        let mut parts = parts(text);
        let is_specific = |part: Option<&&str>| {
            let attribute = part.and_then(|part| part.split_once('=')).map(|(attribute, _)| attribute.trim());
            attribute.is_some_and(|attribute| ["CN", "UID"].iter().any(|known| attribute.eq_ignore_ascii_case(known)))
        };
        if !is_specific(parts.first()) && is_specific(parts.last()) {
            parts.reverse();
        }
        let trimmed = parts.join(",");
        let name = Name::from_str(&trimmed).map_err(|error| DnError(error.to_string()))?;
        if name.is_empty() {
            return Err(DnError("it is empty".to_owned()));
        }
        let der = name.to_der().map_err(|error| DnError(error.to_string()))?;
        Ok(Self::build(&name, der))
    }
}

/// Splits at commas that no backslash precedes.
fn parts(text: &str) -> Vec<&str> {
    let mut escaped = false;
    let separator = |found: char| {
        let separates = found == ',' && !escaped;
        escaped = found == '\\' && !escaped;
        separates
    };
    text.split(separator).map(str::trim).collect()
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.comparable == other.comparable
    }
}

impl Eq for DistinguishedName {}

impl hash::Hash for DistinguishedName {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.comparable.hash(state);
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DistinguishedName({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dn(text: &str) -> DistinguishedName {
        text.parse().unwrap()
    }

    #[test]
    fn case_and_spaces_do_not_make_another_name_but_order_does() {
        assert_eq!(dn("CN=edge1.example.net,O=Example  AG,C=CH"), dn("cn=Edge1.Example.NET, O=example ag, C=ch"));
        assert_ne!(dn("OU=Edge,O=Example"), dn("O=Example,OU=Edge"));
        assert_ne!(dn("CN=edge1,O=Example"), dn("CN=edge1"));
    }

    #[test]
    fn both_habits_of_writing_names_are_read() {
        assert_eq!(dn("C=CH, O=Example, CN=edge1"), dn("CN=edge1,O=Example,C=CH"));
        assert_eq!(dn("O=Example,UID=edge1"), dn("UID=edge1,O=Example"));
        assert_eq!(dn("O=Example\\, Sons,CN=edge1").to_string(), "CN=edge1,O=Example\\, Sons");
    }

    #[test]
    fn units_are_found_wherever_they_stand() {
        let name = dn("CN=edge1,OU=Edge  Routers+OU=Lab,O=Example");
        assert!(name.has_unit("edge routers") && name.has_unit("LAB"));
        assert!(!name.has_unit("Edge") && !name.has_unit("Example"));
    }

    #[test]
    fn der_comes_back_and_rubbish_does_not() {
        let name = dn("CN=edge1.example.net,O=Example,C=CH");
        let again = DistinguishedName::from_der(name.der()).unwrap();
        assert_eq!(again, name);
        assert_eq!(again.to_string(), "CN=edge1.example.net,O=Example,C=CH");
        assert!(DistinguishedName::from_der(&name.der()[1..]).is_err());
        assert!("edge1".parse::<DistinguishedName>().is_err());
        assert!("".parse::<DistinguishedName>().is_err());
    }
}
