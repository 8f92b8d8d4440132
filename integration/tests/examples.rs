//! Every example is a configuration that both daemons accept.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use integration::Lab;
use integration::edge::{Binaries, Edge};
use integration::pki::{Authority, KeyKind, Validity, write_secret};

#[test]
fn every_example_is_understood_without_a_word_of_complaint() -> Result<()> {
    for file in configurations()? {
        let text = std::fs::read_to_string(&file)?;
        let name = file.display().to_string();
        match config::parse(&text) {
            Ok(parsed) => {
                let warnings: Vec<String> = parsed.warnings.lines(&name).collect();
                ensure!(warnings.is_empty(), "{}", warnings.join("\n"));
            }
            Err(diagnostics) => anyhow::bail!("{}", diagnostics.render(&name, &text)),
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn both_daemons_accept_every_example() {
    Lab::test("examples", |lab| {
        let binaries = Binaries::find()?;
        let authority = Authority::new("Examples CA")?;
        for file in configurations()? {
            let name = file
                .with_extension("")
                .components()
                .rev()
                .take(2)
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join("-");
            let node = lab.node(&name)?;
            let text = std::fs::read_to_string(&file)?;
            provide_keys(&text, node.folder(), &authority)?;
            let edge = Edge::new(&node, &binaries, &text)?;
            for daemon in ["bgpd", "ipsecd"] {
                edge.check(daemon).with_context(|| format!("{daemon} --check refuses {}", file.display()))?;
            }
        }
        Ok(())
    });
}

/// All `*.conf` under `examples/`.
fn configurations() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root)? {
        for file in std::fs::read_dir(folder?.path())? {
            found.push(file?.path());
        }
    }
    // The other end's configuration lies beside ours.
    found.retain(|path| {
        path.extension().is_some_and(|extension| extension == "conf") && !path.ends_with("swanctl.conf")
    });
    found.sort();
    ensure!(!found.is_empty(), "there are no examples");
    Ok(found)
}

/// Makes the key files that a configuration names.
fn provide_keys(text: &str, folder: &Path, authority: &Authority) -> Result<()> {
    let id = text.lines().find_map(|line| line.strip_prefix(" id ")).unwrap_or("example.net");
    for file in text.split_whitespace().filter_map(|word| word.strip_prefix("/etc/holdfast/")) {
        if let Some(name) = file.strip_suffix(".key") {
            authority.issue(id, KeyKind::EcdsaP256, Validity::Current)?.write(folder, name, authority)?;
        } else if file.ends_with("psk") {
            write_secret(&folder.join(file), "the key of an example\n")?;
        }
    }
    Ok(())
}
