//! Filters of a neighbor's routes, and what is announced to it beyond the table.

use super::Name;

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$kind>,)*
        }

        impl $name {
            /// These settings, and what they leave open as `group` has it.
            pub(super) fn or(self, group: &Self) -> Self {
                Self { $($field: self.$field.or_else(|| group.$field.clone()),)* }
            }
        }
    };
}

settings! {
    /// What may be said of a neighbor's routes within an address family besides prefix-lists and route-maps.
    PolicySettings {
        /// `distribute-list NAME in`: an access-list.
        distribute_list_in: Name,
        /// `distribute-list NAME out`
        distribute_list_out: Name,
        /// `filter-list NAME in`: an AS path access-list.
        filter_list_in: Name,
        /// `filter-list NAME out`
        filter_list_out: Name,
        /// `unsuppress-map NAME`: suppressed more specific routes that it permits are announced all the same.
        unsuppress_map: Name,
        /// `default-originate`
        default_originate: DefaultOriginate,
        /// `advertise-map NAME exist-map|non-exist-map NAME`
        advertise_map: AdvertiseMap,
        /// `maximum-prefix-out N`: no more than so many are announced.
        maximum_prefix_out: u32,
    }
}

/// `default-originate`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultOriginate {
    /// `no … default-originate`, also where the group has it.
    No,
    /// The neighbor is told a default route: always, or while some route passes the route-map.
    Yes {
        /// `route-map NAME`
        route_map: Option<Name>,
    },
}

/// `advertise-map NAME exist-map|non-exist-map NAME`: routes that the first one permits are announced only while some route,
/// or none, passes the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertiseMap {
    /// Which routes.
    pub map: Name,
    /// Whether something must exist, or must not.
    pub wanted: Existence,
    /// What.
    pub condition: Name,
}

/// What `advertise-map` asks of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// `exist-map`
    Exist,
    /// `non-exist-map`
    NonExist,
}

impl Existence {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exist => "exist-map",
            Self::NonExist => "non-exist-map",
        }
    }
}
