//! Messages of other implementations, and what must not be taken for one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ike_wire::{
    AuthMethod, HEADER_LEN, IdKind, Message, Payload, PayloadType, Truncated, emit_chain, first_type, parse_inner,
    payload::ChainError,
};

fn testdata(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort();
    files
}

fn octets(path: &Path) -> Vec<u8> {
    let text: String = fs::read_to_string(path).unwrap().split_whitespace().collect();
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// One line for the header and one for each payload.
fn describe(message: &Message) -> String {
    let header = &message.header;
    let (exchange, id) = (header.exchange, header.message_id);
    let direction = if header.flags.response { "response" } else { "request" };
    let mut lines = vec![format!("{exchange} {direction} {id}")];
    for payload in &message.payloads {
        let kind = payload.kind();
        lines.push(match payload {
            Payload::Sa(sa) => {
                let proposals: Vec<_> = sa.proposals.iter().map(|one| format!("{} {one}", one.number)).collect();
                format!("{kind} {}", proposals.join("\n   "))
            }
            Payload::Ke(ke) => format!("{kind} {} {} octets", ke.group, ke.public.len()),
            Payload::Nonce(nonce) => format!("{kind} {} octets", nonce.len()),
            Payload::Notify(notify) => format!("{kind} {} {} octets", notify.kind, notify.data.len()),
            Payload::VendorId(vendor) => format!("{kind} {}", String::from_utf8_lossy(vendor)),
            other => format!("{kind} {other:?}"),
        });
    }
    if let Some(protected) = &message.protected {
        lines.push(format!("{} {} octets, first {}", protected.kind(), protected.body.len(), protected.first_inner));
    }
    lines.join("\n") + "\n"
}

#[test]
fn recorded_messages_say_what_they_did() {
    let files = testdata("ikev2", ".hex");
    let files: Vec<_> = files.into_iter().filter(|path| !path.to_str().unwrap().ends_with(".inner.hex")).collect();
    assert_eq!(files.len(), 23);
    for path in files {
        let wire = octets(&path);
        let message = Message::parse(&wire).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        assert_eq!(describe(&message), expected, "{}", path.display());
        if message.protected.is_none() {
            // Reserved bits aside (one sender sets the critical bit on SA), emission is the inverse.
            assert_eq!(Message::parse(&message.emit().unwrap()), Ok(message), "{}", path.display());
        }
    }
}

#[test]
fn a_decrypted_chain_reads_like_any_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ikev2/ikev2pi2-02.inner.hex");
    let inner = octets(&path);
    let payloads = parse_inner(PayloadType::IdInitiator, &inner).unwrap();
    let [Payload::IdInitiator(id), Payload::Auth(auth)] = payloads.as_slice() else { panic!("{payloads:?}") };
    assert_eq!((id.kind, id.to_string().as_str()), (IdKind::Fqdn, "west"));
    assert_eq!((auth.method, auth.data.len()), (AuthMethod::RsaSignature, 192));
    let mut again = Vec::new();
    emit_chain(&payloads, PayloadType::None, &mut again).unwrap();
    assert_eq!((first_type(&payloads), again), (PayloadType::IdInitiator, inner));
}

#[test]
fn what_is_not_ikev2_is_refused() {
    let files = testdata("malformed", ".hex");
    assert_eq!(files.len(), 17);
    for path in files {
        let wire = octets(&path);
        assert!(Message::parse(&wire).is_err(), "{}", path.display());
        // The contents behind the header, as any type they could be: errors are fine, panics are not.
        for kind in 0..=255u8 {
            let _ = parse_inner(kind.into(), wire.get(HEADER_LEN..).unwrap_or_default());
        }
    }
}

#[test]
fn an_identification_shorter_than_its_header_is_refused() {
    let payload = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/malformed").join(name);
        let chain = octets(&path).split_off(HEADER_LEN);
        let len = usize::from(u16::from_be_bytes([chain[2], chain[3]]));
        parse_inner(PayloadType::IdInitiator, &chain[..len])
    };
    let normal = payload("ikev2-id-normal-01.hex").unwrap();
    assert!(matches!(normal.as_slice(), [Payload::IdInitiator(id)] if id.data.len() == 1), "{normal:?}");
    let short = payload("ikev2-id-short-01.hex");
    let kind = PayloadType::IdInitiator;
    let reason = Truncated { needed: 3, found: 0 }.into();
    assert_eq!(short, Err(ChainError::Payload { kind, reason }));
}
