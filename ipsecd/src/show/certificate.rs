//! `show ipsec certificate`: our certificates, the authorities we trust, who was taken back, and how we know.

use std::time::Duration;

use ike_crypto::pki::{CertificateNames, utc};
use serde_json::Value;

use super::{Table, object};
use crate::trust::{ListView, ResponderView, TrustView, source_name};

/// Certificates, lists and responders, a table each; those that there are none of are left out.
pub fn text(trust: &TrustView, now: Duration) -> String {
    if trust.held.is_empty() {
        return "no certificates are configured\n".to_owned();
    }
    let mut table = Table::new(&["Holder", "Role", "Subject", "Serial", "Ends", ">Days"]);
    for held in &trust.held {
        table.row(vec![
            held.holder.clone(),
            held.role.name().to_owned(),
            held.names.subject.to_string(),
            serial(&held.names),
            utc(held.names.not_after),
            days_left(held.names.not_after, now),
        ]);
    }
    let mut out = table.render();
    if !trust.lists.is_empty() {
        let mut table = Table::new(&["Revocation list", "Issuer", ">Number", ">Revoked", "Ends", "Last error"]);
        trust.lists.iter().for_each(|view| table.row(list_row(view, now)));
        out = format!("{out}\n{}", table.render());
    }
    if !trust.responders.is_empty() {
        let mut table = Table::new(&["Responder", ">Answers", ">Failures", "Last error"]);
        for ResponderView { url, answers, failures, error } in &trust.responders {
            let error = error.clone().unwrap_or_else(|| "-".to_owned());
            table.row(vec![url.clone(), answers.to_string(), failures.to_string(), error]);
        }
        out = format!("{out}\n{}", table.render());
    }
    out
}

fn list_row(view: &ListView, now: Duration) -> Vec<String> {
    let dash = || "-".to_owned();
    let error = view.error.clone().unwrap_or_else(dash);
    match &view.list {
        None => vec![source_name(&view.source), dash(), dash(), dash(), dash(), error],
        Some(list) => {
            let ended = if list.next_update() <= now { " (ended)" } else { "" };
            vec![
                source_name(&view.source),
                list.issuer().to_string(),
                list.number().map_or_else(dash, |number| number.to_string()),
                list.revoked().to_string(),
                format!("{}{ended}", utc(list.next_update())),
                error,
            ]
        }
    }
}

/// Lower-case hexadecimal digits.
fn serial(names: &CertificateNames) -> String {
    names.serial.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn days_left(end: Duration, now: Duration) -> String {
    match end.checked_sub(now) {
        Some(left) => (left.as_secs() / 86_400).to_string(),
        None => "expired".to_owned(),
    }
}

/// An object of three arrays.
pub fn json(trust: &TrustView) -> Value {
    let certificates = trust.held.iter().map(|held| {
        let names = held.names.alternatives.iter().map(|name| name.to_string().into()).collect();
        Value::Object(object([
            ("holder", held.holder.clone().into()),
            ("role", held.role.name().into()),
            ("subject", held.names.subject.to_string().into()),
            ("issuer", held.names.issuer.to_string().into()),
            ("serial", serial(&held.names).into()),
            ("alternativeNames", Value::Array(names)),
            ("notBeforeUnix", held.names.not_before.as_secs().into()),
            ("notAfterUnix", held.names.not_after.as_secs().into()),
        ]))
    });
    let lists = trust.lists.iter().map(|view| {
        let list = view.list.as_ref();
        Value::Object(object([
            ("source", source_name(&view.source).into()),
            ("issuer", list.map(|list| list.issuer().to_string()).into()),
            ("number", list.and_then(|list| list.number()).into()),
            ("revoked", list.map(|list| list.revoked()).into()),
            ("thisUpdateUnix", list.map(|list| list.this_update().as_secs()).into()),
            ("nextUpdateUnix", list.map(|list| list.next_update().as_secs()).into()),
            ("failures", view.failures.into()),
            ("error", view.error.clone().into()),
        ]))
    });
    let responders = trust.responders.iter().map(|view| {
        Value::Object(object([
            ("url", view.url.clone().into()),
            ("answers", view.answers.into()),
            ("failures", view.failures.into()),
            ("error", view.error.clone().into()),
        ]))
    });
    Value::Object(object([
        ("certificates", certificates.collect()),
        ("revocationLists", lists.collect()),
        ("responders", responders.collect()),
    ]))
}

#[cfg(test)]
mod tests {
    use config::model::ListSource;

    use super::*;
    use crate::trust::{CertificateRole, Held, tests::Authority};

    #[test]
    fn what_ends_when_and_who_was_taken_back_is_shown() {
        let authority = Authority::new("Example CA");
        let names = |role| Held {
            holder: "ipsec identity site".to_owned(),
            role,
            names: authority.names_of("edge1.example.net", 0xc0_ffee),
        };
        let trust = TrustView {
            held: vec![names(CertificateRole::Own)],
            lists: vec![ListView {
                source: ListSource::Url("http://pki.example.net/site.crl".parse().unwrap()),
                list: Some(authority.list(&[1, 2], 3)),
                error: Some("no answer within 5 seconds".to_owned()),
                failures: 3,
            }],
            responders: vec![ResponderView { url: "http://pki.example.net/".to_owned(), ..Default::default() }],
        };
        let held = &trust.held[0].names;
        let text_at = |now| text(&trust, now);
        let shown = text_at(held.not_after - Duration::from_secs(3 * 86_400));
        for part in
            ["ipsec identity site  own", "c0ffee", "http://pki.example.net/site.crl", "no answer within", "(ended)"]
        {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        let first = shown.lines().nth(1).unwrap_or_default();
        assert!(first.ends_with(" 3"), "{first}");
        assert!(
            text_at(held.not_after + Duration::from_secs(1)).lines().nth(1).unwrap_or_default().ends_with("expired")
        );
        let json = json(&trust);
        assert_eq!(json["certificates"][0]["serial"], "c0ffee");
        assert_eq!(json["certificates"][0]["alternativeNames"][0], "edge1.example.net");
        assert_eq!(
            (&json["revocationLists"][0]["revoked"], &json["revocationLists"][0]["number"]),
            (&2.into(), &3.into())
        );
    }
}
