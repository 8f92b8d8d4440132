//! The connection to one cache: dialled, served, dialled again.

use std::time::{Duration, Instant, SystemTime};

use config::model::{RpkiCache, RpkiTransport};
use rand::Rng;
use rtr::{Closed, Output};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep_until, timeout},
};
use tracing::{info, warn};

use super::{Rpki, tls};

/// How long a connection may take to be made, and again to take what is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the second attempt; doubles up to the retry interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Octets to read at once: some hundred payloads, so that the others' turn comes soon.
const READ: usize = 32 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a connection ended, or none was made.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("the cache closed the connection")]
    End,
    #[error("the cache is not configured any more")]
    Forgotten,
}

impl From<tokio::time::error::Elapsed> for Trouble {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Timeout
    }
}

/// Runs until the task is aborted.
pub(super) async fn run(rpki: Rpki, preference: u8, config: RpkiCache) {
    let mut pause = FIRST_PAUSE;
    let mut last = String::new();
    loop {
        let trouble = match dial(&config).await {
            Ok(stream) => {
                info!(host = %config.host, port = config.port, "connected to the RPKI cache");
                last.clear();
                let (trouble, synced) = converse(&rpki, preference, stream).await;
                if synced {
                    pause = FIRST_PAUSE;
                }
                trouble
            }
            Err(trouble) => trouble,
        };
        if matches!(trouble, Trouble::Forgotten) {
            return;
        }
        let text = trouble.to_string();
        // The same trouble again and again is said once.
        if text != last {
            warn!(host = %config.host, port = config.port, cause = %text, "no RPKI cache here; trying again");
            last.clone_from(&text);
        }
        let lost = rpki.step(preference, |cache| {
            cache.client.lost();
            if cache.trouble.is_none() {
                cache.since = SystemTime::now();
            }
            cache.trouble = Some(text);
            Vec::new()
        });
        if lost.await.is_none() {
            return;
        }
        let Some(longest) = wait(&rpki, preference, pause).await else { return };
        pause = (pause * 2).min(longest).max(FIRST_PAUSE);
    }
}

/// Waits about as long as it says; payloads expire meanwhile. Gives the retry interval.
async fn wait(rpki: &Rpki, preference: u8, pause: Duration) -> Option<Duration> {
    let until = Instant::now() + pause.mul_f64(rand::rng().random_range(0.75..1.0));
    let mut longest = FIRST_PAUSE;
    loop {
        let mut due = None;
        rpki.step(preference, |cache| {
            let outputs = cache.client.timeout(Instant::now());
            due = cache.client.poll_timeout();
            longest = cache.client.status().intervals.retry;
            outputs
        })
        .await?;
        if Instant::now() >= until {
            return Some(longest);
        }
        sleep_until(due.map_or(until, |due| due.min(until)).into()).await;
    }
}

async fn dial(config: &RpkiCache) -> Result<Box<dyn Stream>, Trouble> {
    let stream = timeout(PATIENCE, TcpStream::connect((config.host.as_str(), config.port))).await??;
    stream.set_nodelay(true)?;
    match &config.transport {
        RpkiTransport::Tcp => Ok(Box::new(stream)),
        RpkiTransport::Tls { trust_anchor, server_name, client } => {
            let name = server_name.as_ref().unwrap_or(&config.host);
            let connected = tls::connect(stream, name.as_str(), trust_anchor, client.as_ref());
            Ok(Box::new(timeout(PATIENCE, connected).await??))
        }
    }
}

/// Serves a connection to its end. Says why it ended, and whether there was a complete answer.
async fn converse(rpki: &Rpki, preference: u8, mut stream: Box<dyn Stream>) -> (Trouble, bool) {
    let mut synced = false;
    let mut buffer = vec![0; READ];
    let mut due = None;
    let begun = rpki.step(preference, |cache| {
        (cache.trouble, cache.since) = (None, SystemTime::now());
        let outputs = cache.client.connected(Instant::now());
        due = cache.client.poll_timeout();
        outputs
    });
    let mut outputs = begun.await;
    loop {
        let Some(todo) = outputs else { return (Trouble::Forgotten, synced) };
        match perform(&mut stream, todo).await {
            Ok(had_answer) => synced |= had_answer,
            Err(trouble) => return (trouble, synced),
        }
        let read = tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) => return (Trouble::End, synced),
                Ok(octets) => Some(octets),
                Err(error) => return (error.into(), synced),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => None,
        };
        outputs = rpki
            .step(preference, |cache| {
                let now = Instant::now();
                let outputs = match read {
                    Some(octets) => cache.client.received(now, buffer.get(..octets).unwrap_or_default()),
                    None => cache.client.timeout(now),
                };
                due = cache.client.poll_timeout();
                outputs
            })
            .await;
    }
}

/// Sends what is to be sent; whether an answer was complete.
async fn perform(stream: &mut Box<dyn Stream>, outputs: Vec<Output>) -> Result<bool, Trouble> {
    let mut synced = false;
    for output in outputs {
        match output {
            Output::Send(octets) => {
                timeout(PATIENCE, async {
                    stream.write_all(&octets).await?;
                    stream.flush().await
                })
                .await??;
            }
            Output::Synced(_) => synced = true,
            Output::Flushed(_) => {} // the table has been told
            Output::Close(closed) => {
                // Best effort: the connection is given up in any case.
                let _ = timeout(PATIENCE, stream.shutdown()).await;
                return Err(closed.into());
            }
        }
    }
    Ok(synced)
}
