//! `holdfast pki show`: what a file says, in the words that the configuration uses.

use std::{fmt::Write as _, path::Path, time::SystemTime};

use ike_crypto::{
    CertificateChain,
    pki::{CertificateNames, Fingerprint, RevocationList, utc},
};
use serde_json::json;

use super::{authority::Error, files, index::since_1970};

/// The certificates of a PEM file with their fingerprints.
pub(super) fn certificates(path: &Path, pem: &str) -> Result<Vec<(Fingerprint, CertificateNames)>, Error> {
    let refused =
        |reason: &dyn std::fmt::Display| Error::Contents { path: path.to_owned(), reason: reason.to_string() };
    let chain = CertificateChain::from_pem(pem.as_bytes()).map_err(|error| refused(&error))?;
    Ok(chain.fingerprints().zip(chain.all()).collect())
}

/// Shows certificates, or the list, in a file.
pub(super) fn show(path: &Path, json: bool, now: SystemTime) -> Result<String, Error> {
    let text = files::read(path).map_err(|reason| Error::File { path: path.to_owned(), reason })?;
    let now = since_1970(now);
    if text.contains("-----BEGIN X509 CRL-----") {
        let list = RevocationList::read(text.as_bytes())
            .map_err(|error| Error::Contents { path: path.to_owned(), reason: error.to_string() })?;
        return Ok(match json {
            true => format!(
                "{:#}\n",
                json!({
                    "issuer": list.issuer().to_string(), "number": list.number(), "revoked": list.revoked(),
                    "thisUpdateUnix": list.this_update().as_secs(), "nextUpdateUnix": list.next_update().as_secs(),
                })
            ),
            false => format!(
                "revocation list of {}\n  number {}, {} taken back\n  from {} until {}{}\n",
                list.issuer(),
                list.number().map_or_else(|| "none".to_owned(), |number| number.to_string()),
                list.revoked(),
                utc(list.this_update()),
                utc(list.next_update()),
                if list.next_update() <= now { " (ended)" } else { "" }
            ),
        });
    }
    let certificates = certificates(path, &text)?;
    if json {
        let all: Vec<_> = certificates
            .iter()
            .map(|(fingerprint, names)| {
                json!({
                    "subject": names.subject.to_string(), "issuer": names.issuer.to_string(),
                    "serial": serial(names),
                    "alternativeNames": names.alternatives.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "notBeforeUnix": names.not_before.as_secs(), "notAfterUnix": names.not_after.as_secs(),
                    "sha256": fingerprint.to_string(),
                })
            })
            .collect();
        return Ok(format!("{:#}\n", json!({ "certificates": all })));
    }
    let mut out = String::new();
    for (fingerprint, names) in &certificates {
        let expired = if names.not_after <= now { " (expired)" } else { "" };
        let _ = writeln!(out, "certificate of {}", names.subject);
        let _ = writeln!(out, "  issued by {}, serial {}", names.issuer, serial(names));
        let _ = writeln!(out, "  from {} until {}{expired}", utc(names.not_before), utc(names.not_after));
        for name in &names.alternatives {
            let _ = writeln!(out, "  id {name}");
        }
        let _ = writeln!(out, "  fingerprint {fingerprint}");
    }
    Ok(out)
}

fn serial(names: &CertificateNames) -> String {
    names.serial.iter().map(|octet| format!("{octet:02x}")).collect()
}
