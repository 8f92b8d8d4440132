//! An authority in a folder: `ca.pem`, `ca.key`, `index.json` and `crl.pem`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ike_crypto::pki::{CertificateNames, UnreadableCertificate, utc};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams, DnType, Issuer, KeyIdMethod,
    KeyPair, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::{
    KeyKind, files,
    index::{Index, Issued, since_1970},
    profile,
};

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}: {reason}", .path.display())]
    File {
        path: PathBuf,
        #[source]
        reason: io::Error,
    },
    #[error("{} is no authority's folder: {reason}; \"holdfast pki ca\" makes one", .folder.display())]
    NoAuthority {
        folder: PathBuf,
        #[source]
        reason: io::Error,
    },
    #[error("{}: {reason}", .path.display())]
    Index {
        path: PathBuf,
        #[source]
        reason: serde_json::Error,
    },
    #[error("another holdfast pki is at work in {}; try again when it is done", .0.display())]
    Busy(PathBuf),
    #[error("\"{0}\" is no name for a certificate; expected a host name, an address or user@domain")]
    Name(String),
    #[error("\"{0}\" cannot be a site's name; expected a host name such as edge1.example.net")]
    SiteName(String),
    #[error("\"{0}\" is neither a domain nor a network; expected example.net or 10.0.0.0/8")]
    Permit(String),
    #[error("the authority ends on {0}; make a new one, and trust both until all sites have new certificates")]
    AuthorityEnded(String),
    #[error("no certificate is named \"{0}\" or has that serial number; \"holdfast pki list\" shows what was issued")]
    NothingMeant(String),
    #[error("{}: neither certificates nor a revocation list in PEM: {reason}", .path.display())]
    Contents { path: PathBuf, reason: String },
    #[error(transparent)]
    Certificate(#[from] UnreadableCertificate),
    #[error("making the certificate failed: {0}")]
    Making(#[from] rcgen::Error),
}

/// What a new authority is to be.
pub(crate) struct NewAuthority {
    pub(super) name: String,
    pub(super) organization: Option<String>,
    pub(super) days: u32,
    pub(super) key: KeyKind,
    pub(super) permit: Vec<String>,
    pub(super) crl_url: Option<String>,
}

/// Whom a certificate is for.
pub(crate) struct Subject {
    pub(super) name: String,
    pub(super) also: Vec<String>,
    pub(super) unit: Option<String>,
}

/// Whose key it certifies.
pub(crate) enum Order {
    /// One to be made.
    Key(KeyKind),
    /// That of a request.
    Request(PathBuf),
}

/// An authority, and nobody else at work in its folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    names: CertificateNames,
    index: Index,
    _lock: File,
}

const DAY: Duration = Duration::from_secs(86_400);

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |reason| Error::File { path, reason }
}

impl Authority {
    /// Makes one.
    pub(super) fn create(folder: &Path, new: &NewAuthority, now: SystemTime) -> Result<String, Error> {
        let now_1970 = since_1970(now);
        let params = profile::authority(new, now_1970, now_1970 + DAY * new.days)?;
        files::new_folder(folder).map_err(at(folder))?;
        let key = new.key.generate()?;
        let certificate = params.self_signed(&key)?;
        let (key_file, file) = (folder.join("ca.key"), folder.join("ca.pem"));
        files::new_secret(&key_file, &key.serialize_pem()).map_err(at(&key_file))?;
        files::replace(&file, &certificate.pem()).map_err(at(&file))?;
        let index = Index { crl_url: new.crl_url.clone(), crl_number: 0, issued: Vec::new() };
        write_index(folder, &index)?;
        let said = format!("{}: authority \"{}\" until {}\n", file.display(), new.name, utc(now_1970 + DAY * new.days));
        Self::open(folder)?.make_list(30, now).map(|list| said + &list)
    }

    /// Opens one to work with.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let lock = folder.join("index.json");
        let no_authority = |reason| Error::NoAuthority { folder: folder.to_owned(), reason };
        // The index is replaced as a whole, so it is the folder that is locked.
        let lock_file = File::open(folder).map_err(no_authority)?;
        lock_file.try_lock().map_err(|_| Error::Busy(folder.to_owned()))?;
        let index = Self::open_to_read(folder)?;
        let (key_file, file) = (folder.join("ca.key"), folder.join("ca.pem"));
        let key = KeyPair::from_pem(&files::read(&key_file).map_err(at(&key_file))?)?;
        let pem = files::read(&file).map_err(at(&file))?;
        let names = super::show::certificates(&file, &pem)?.into_iter().next();
        let names = names
            .map(|(_, names)| names)
            .ok_or_else(|| Error::Contents { path: lock, reason: "it holds no certificate".to_owned() })?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self { folder: folder.to_owned(), issuer, names, index, _lock: lock_file })
    }

    /// Its index alone, without the key.
    pub(super) fn open_to_read(folder: &Path) -> Result<Index, Error> {
        let path = folder.join("index.json");
        let text = files::read(&path).map_err(|reason| Error::NoAuthority { folder: folder.to_owned(), reason })?;
        serde_json::from_str(&text).map_err(|reason| Error::Index { path, reason })
    }

    /// Issues a certificate.
    pub(super) fn issue(
        mut self,
        subject: &Subject,
        order: &Order,
        days: u32,
        out: &Path,
        now: SystemTime,
    ) -> Result<String, Error> {
        if !profile::is_host(&subject.name) {
            return Err(Error::SiteName(subject.name.clone()));
        }
        let now = since_1970(now);
        let until = (now + DAY * days).min(self.names.not_after);
        if self.names.not_after <= now {
            return Err(Error::AuthorityEnded(utc(self.names.not_after)));
        }
        let params = profile::site(subject, self.index.crl_url.as_deref(), now, until)?;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let (certificate, key) = match order {
            Order::Key(kind) => {
                let key = kind.generate()?;
                (params.signed_by(&key, &self.issuer)?, Some(key))
            }
            Order::Request(file) => {
                // Its signature is checked here: whoever sent it has the key.
                let request = CertificateSigningRequestParams::from_pem(&files::read(file).map_err(at(file))?)?;
                (params.signed_by(&request.public_key, &self.issuer)?, None)
            }
        };
        let file = out.join(format!("{}.pem", subject.name));
        let key_file = out.join(format!("{}.key", subject.name));
        if let Some(key) = &key {
            files::new_secret(&key_file, &key.serialize_pem()).map_err(at(&key_file))?;
        }
        // First into the index: a certificate that nobody knows of could not be taken back.
        let serial: String = serial.iter().map(|octet| format!("{octet:02x}")).collect();
        let issued =
            Issued { serial: serial.clone(), name: subject.name.clone(), not_after: until.as_secs(), revoked: None };
        self.index.issued.push(issued);
        write_index(&self.folder, &self.index)?;
        files::replace(&file, &certificate.pem()).map_err(at(&file))?;
        let mut said = format!("{}: {} until {}, serial {serial}\n", file.display(), subject.name, utc(until));
        if key.is_some() {
            said +=
                &format!("{}: its key; carry it to the site by a way that nobody else can read\n", key_file.display());
        }
        Ok(said)
    }

    /// Takes back what is meant.
    pub(super) fn revoke(mut self, certificate: &str, days: u32, now: SystemTime) -> Result<String, Error> {
        let mut said = String::new();
        let meant = self.index.meant(certificate);
        if meant.is_empty() {
            return Err(Error::NothingMeant(certificate.to_owned()));
        }
        for issued in meant {
            let before = issued.revoked.replace(issued.revoked.unwrap_or(since_1970(now).as_secs()));
            let what = if before.is_some() { "was taken back before" } else { "is taken back" };
            said += &format!("{} {}: {what}\n", issued.name, issued.serial);
        }
        self.make_list(days, now).map(|list| said + &list)
    }

    /// Makes a list of all that was taken back and has not expired by itself, and keeps the index.
    pub(super) fn make_list(mut self, days: u32, now: SystemTime) -> Result<String, Error> {
        let (now, epoch) = (since_1970(now), date_time_ymd(1970, 1, 1));
        let next = now + DAY * days;
        self.index.crl_number += 1;
        let revoked = self.index.issued.iter().filter(|issued| issued.not_after > now.as_secs());
        let revoked_certs: Vec<_> = revoked
            .filter_map(|issued| {
                Some(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&unhex(&issued.serial)?),
                    revocation_time: epoch + Duration::from_secs(issued.revoked?),
                    reason_code: Some(RevocationReason::Unspecified),
                    invalidity_date: None,
                })
            })
            .collect();
        let count = revoked_certs.len();
        let params = CertificateRevocationListParams {
            this_update: epoch + Duration::from_secs(now.as_secs()),
            next_update: epoch + Duration::from_secs(next.as_secs()),
            crl_number: SerialNumber::from(self.index.crl_number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer)?;
        write_index(&self.folder, &self.index)?;
        let file = self.folder.join("crl.pem");
        files::replace(&file, &list.pem()?).map_err(at(&file))?;
        let number = self.index.crl_number;
        Ok(format!("{}: list {number}, {count} taken back, until {}\n", file.display(), utc(next)))
    }
}

/// Makes a key and a request for it.
pub(super) fn request(name: &str, kind: KeyKind, out: &Path) -> Result<String, Error> {
    if !profile::is_host(name) {
        return Err(Error::SiteName(name.to_owned()));
    }
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = kind.generate()?;
    let request = params.serialize_request(&key)?.pem()?;
    let (key_file, file) = (out.join(format!("{name}.key")), out.join(format!("{name}.csr")));
    files::new_secret(&key_file, &key.serialize_pem()).map_err(at(&key_file))?;
    files::replace(&file, &request).map_err(at(&file))?;
    Ok(format!(
        "{}: a request; have it certified by \"holdfast pki issue FOLDER {name} --request FILE\"\n{}: its key, which stays here\n",
        file.display(),
        key_file.display()
    ))
}

fn write_index(folder: &Path, index: &Index) -> Result<(), Error> {
    let path = folder.join("index.json");
    let text = serde_json::to_string_pretty(index).map_err(|reason| Error::Index { path: path.clone(), reason })?;
    files::replace(&path, &format!("{text}\n")).map_err(at(&path))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octets = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { octets } else { None }
}
