//! `cargo xtask licences`: every dependency's licence against the list in deny.toml.
//!
//! The same list serves cargo-deny; this check needs nothing installed.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::build::{cargo, workspace};

/// Checks all packages of the lock file; `false` when one has a licence that is not on the list.
pub(crate) fn run() -> Result<bool> {
    let allowed = allowed(&std::fs::read_to_string(workspace().join("deny.toml"))?)?;
    let output =
        cargo().args(["metadata", "--format-version", "1", "--locked"]).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut refused = Vec::new();
    for package in packages {
        let name =
            format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
        let licence = package["license"].as_str().unwrap_or("");
        match permits(licence, &allowed) {
            Ok(true) => {}
            Ok(false) => refused.push(format!("{name}: {licence:?} is not on the list in deny.toml")),
            Err(error) => refused.push(format!("{name}: {licence:?}: {error:#}")),
        }
    }
    for line in &refused {
        println!("{line}");
    }
    println!("licences of {} packages checked, {} refused", packages.len(), refused.len());
    Ok(refused.is_empty())
}

/// The list `allow = [...]` of deny.toml.
fn allowed(text: &str) -> Result<Vec<String>> {
    let list = text
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .context("deny.toml has no `allow = [`")?;
    Ok(list.0.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Whether an SPDX expression can be met with allowed licences only.
fn permits(expression: &str, allowed: &[String]) -> Result<bool> {
    // The slash is how older packages spell OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let verdict = any(&mut rest, allowed)?;
    ensure!(rest.is_empty(), "unexpected {:?}", rest.join(" "));
    Ok(verdict)
}

fn any(rest: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let mut verdict = every(rest, allowed)?;
    while let Some(("OR", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        verdict |= every(rest, allowed)?;
    }
    Ok(verdict)
}

fn every(rest: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let mut verdict = one(rest, allowed)?;
    while let Some(("AND", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        verdict &= one(rest, allowed)?;
    }
    Ok(verdict)
}

fn one(rest: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let (word, after) = rest.split_first().context("a licence is missing")?;
    *rest = after;
    if *word == "(" {
        let verdict = any(rest, allowed)?;
        let Some((&")", after)) = rest.split_first() else { bail!("a parenthesis is not closed") };
        *rest = after;
        return Ok(verdict);
    }
    let mut name = (*word).to_owned();
    if let [with @ "WITH", exception, after @ ..] = *rest {
        name = format!("{name} {with} {exception}");
        *rest = after;
    }
    Ok(allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_say() -> Result<()> {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("(MIT OR ISC) AND GPL-3.0", false),
        ] {
            assert_eq!(permits(expression, &allowed)?, expected, "{expression}");
        }
        for broken in ["", "(MIT", "MIT ISC", "MIT OR"] {
            assert!(permits(broken, &allowed).is_err(), "{broken}");
        }
        Ok(())
    }
}
