//! `holdfast pki`: an authority in a folder, certificates for sites, and lists of those taken back, so that nobody needs
//! another tool to begin.
//!
//! It is for the machine that the authority is kept on, and talks to no daemon. Keys are files that only their owner may
//! read; the authority's never leaves its folder, and a site can keep its own by sending a request.

mod authority;
mod files;
mod index;
mod profile;
mod show;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use clap::{Args, Subcommand, ValueEnum};

use authority::{Authority, Error, NewAuthority, Order, Subject};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an authority in a new folder: its key, its certificate, its index and its first revocation list.
    Ca {
        /// The folder, which must not exist or be empty.
        folder: PathBuf,
        /// The authority's name, as in "Example Site CA".
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Its organization.
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        /// For how many days.
        #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// What kind of key.
        #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP384)]
        key: KeyKind,
        /// A domain or network that its certificates must stay within; may be given several times.
        #[arg(long, value_name = "DOMAIN|PREFIX")]
        permit: Vec<String>,
        /// Where its revocation list will be published, written into each certificate.
        #[arg(long, value_name = "URL")]
        crl_url: Option<String>,
    },
    /// Issue a certificate to a site: NAME.pem, and NAME.key unless there is a request.
    Issue {
        /// The authority's folder.
        folder: PathBuf,
        #[command(flatten)]
        subject: SubjectArguments,
        /// For how many days; never beyond the authority's end.
        #[arg(long, value_name = "DAYS", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// What kind of key.
        #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
        key: KeyKind,
        /// A request from "holdfast pki request": the key stays where it was made. Names are taken from here, not from it.
        #[arg(long, value_name = "FILE", conflicts_with = "key")]
        request: Option<PathBuf>,
        /// Where the files go; the authority's folder otherwise.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Make a key and a request at the site: NAME.key and NAME.csr.
    Request {
        /// The site's name, as in edge1.example.net.
        name: String,
        /// What kind of key.
        #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
        key: KeyKind,
        /// Where the files go.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Take certificates back, by name or serial number, and make a new revocation list.
    Revoke {
        /// The authority's folder.
        folder: PathBuf,
        /// A name, for all of its certificates, or a serial number.
        certificate: String,
        /// How long the list is in force.
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Make a new revocation list, crl.pem: before the last one ends.
    Crl {
        /// The authority's folder.
        folder: PathBuf,
        /// How long it is in force.
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Show what an authority has issued.
    List {
        /// The authority's folder.
        folder: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the certificates or the revocation list in a file.
    Show {
        /// The file, in PEM.
        file: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Whom a certificate is for.
#[derive(Debug, Args)]
pub(crate) struct SubjectArguments {
    /// The site's name, as in edge1.example.net: its host name in the certificate, and the files' name.
    name: String,
    /// A further host name, address or user@domain; may be given several times.
    #[arg(long = "also", value_name = "NAME|ADDRESS")]
    also: Vec<String>,
    /// An organizational unit.
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
}

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    /// ECDSA on P-256: what every peer understands.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519 (RFC 8420): small and fast; not every gateway has it.
    Ed25519,
    /// RSA of 2048 bits, for old gateways.
    Rsa,
}

/// Does it, and says what was done.
pub(crate) fn run(command: Command) -> ExitCode {
    match carry_out(command, SystemTime::now()) {
        Ok(said) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("holdfast pki: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command, now: SystemTime) -> Result<String, Error> {
    match command {
        Command::Ca { folder, name, organization, days, key, permit, crl_url } => {
            Authority::create(&folder, &NewAuthority { name, organization, days, key, permit, crl_url }, now)
        }
        Command::Issue { folder, subject, days, key, request, out } => {
            let SubjectArguments { name, also, unit } = subject;
            let subject = Subject { name, also, unit };
            let out = out.unwrap_or_else(|| folder.clone());
            let order = match request {
                Some(file) => Order::Request(file),
                None => Order::Key(key),
            };
            Authority::open(&folder)?.issue(&subject, &order, days, &out, now)
        }
        Command::Request { name, key, out } => authority::request(&name, key, &out),
        Command::Revoke { folder, certificate, days } => Authority::open(&folder)?.revoke(&certificate, days, now),
        Command::Crl { folder, days } => Authority::open(&folder)?.make_list(days, now),
        Command::List { folder, json } => Authority::open_to_read(&folder).map(|index| index.show(json, now)),
        Command::Show { file, json } => show::show(&file, json, now),
    }
}
