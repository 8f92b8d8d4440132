//! AS path access-lists: expressions over the path as it is printed, the first that matches decides, and none denies.

use super::{Action, Pattern};

/// Expressions in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsPathList {
    name: String,
    rules: Vec<(Action, Pattern)>,
}

impl AsPathList {
    /// The list `name` with these rules, in this order. Without any, as if it were not defined, it denies everything.
    pub fn new(name: impl Into<String>, rules: impl IntoIterator<Item = (Action, Pattern)>) -> Self {
        Self { name: name.into(), rules: rules.into_iter().collect() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the first matching rule says of a path as [`AsPath`](bgp_wire::AsPath) prints it.
    pub fn evaluate(&self, path: &str) -> Action {
        let rule = self.rules.iter().find(|(_, pattern)| pattern.matches(path));
        rule.map_or(Action::Deny, |(action, _)| *action)
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn the_first_expression_that_matches_decides() {
        let pattern = |text: &str| Pattern::from(Regex::new(text).unwrap());
        let list = AsPathList::new("l", [(Action::Deny, pattern("^65001 ")), (Action::Permit, pattern("65002$"))]);
        assert_eq!(list.evaluate("65001 65002"), Action::Deny);
        assert_eq!(list.evaluate("65003 65002"), Action::Permit);
        assert_eq!(list.evaluate(""), Action::Deny);
    }
}
