//! The Prometheus endpoint: `GET /metrics`, nothing else.
//!
//! Values are read when they are asked for (`Collector`), so that counting costs the hot paths nothing but an atomic add.
//! Connections, their idle time and their whole time are bounded; beyond that they are closed.

use std::{convert::Infallible, fmt, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// Time for a request to arrive.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Time for values to be brought up to date.
const REFRESH_TIME: Duration = Duration::from_secs(2);
/// Time for a whole connection, however often it is used.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Asks for what a collector cannot read by itself.
type Refresh = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Serves a registry. Dropping it closes the socket.
pub struct MetricsServer {
    listener: TcpListener,
    scrape: Scrape,
}

/// Where the values come from.
#[derive(Clone)]
struct Scrape {
    registry: Arc<Registry>,
    refresh: Option<Refresh>,
}

impl fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsServer").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl MetricsServer {
    /// Listens at `address`.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn bind(address: SocketAddr, registry: Arc<Registry>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, scrape: Scrape { registry, refresh: None } })
    }

    /// Has `refresh` run before each answer, for values that live on other threads. When it takes too long the answer
    /// has the values of the last time.
    #[must_use]
    pub fn refreshed_by<F, R>(mut self, refresh: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.scrape.refresh = Some(Arc::new(move || Box::pin(refresh())));
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match (accepted, slots.clone().try_acquire_owned()) {
                (Ok((stream, _)), Ok(slot)) => {
                    let scrape = self.scrape.clone();
                    connections.spawn(async move {
                        serve(stream, scrape).await;
                        drop(slot);
                    });
                }
                (Ok((_, peer)), Err(_)) => debug!(%peer, limit = CONNECTIONS, "too many connections for metrics"),
                (Err(error), _) => {
                    warn!(%error, "cannot accept a connection for metrics");
                    // Out of descriptors, most likely: accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, scrape: Scrape) {
    let service = service_fn(move |request| {
        let scrape = scrape.clone();
        async move { Ok::<_, Infallible>(respond(&request, &scrape).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for metrics failed"),
        Err(_) => debug!("a connection for metrics was open too long"),
    }
}

async fn respond(request: &Request<Incoming>, scrape: &Scrape) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "only /metrics is here\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some(refresh) = &scrape.refresh
        && timeout(REFRESH_TIME, refresh()).await.is_err()
    {
        warn!("metrics could not be brought up to date in time; a thread is busy");
    }
    let mut body = String::new();
    match text::encode(&mut body, &scrape.registry) {
        Ok(()) => {
            let mut response = Response::new(Full::from(body));
            response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
            response
        }
        Err(error) => {
            warn!(%error, "metrics cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written; the log has more\n")
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc_by(42);
        registry.register("bgp_updates_received", "UPDATE messages received", counter);
        let server = MetricsServer::bind(([127, 0, 0, 1], 0).into(), Arc::new(registry)).await.unwrap();
        (server.local_addr().unwrap(), tokio::spawn(server.run()))
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let (address, server) = start().await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = ask(address, &get("/metrics")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("bgp_updates_received_total 42\n"), "{answer}");
        assert!(answer.contains("application/openmetrics-text") && answer.ends_with("# EOF\n"), "{answer}");
        assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404"));
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(ask(address, post).await.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        server.abort();
    }

    #[tokio::test]
    async fn values_of_other_threads_are_asked_for_before_each_answer() {
        let counter: Counter = Counter::default();
        let mut registry = Registry::default();
        registry.register("asked", "Times asked", counter.clone());
        let server = MetricsServer::bind(([127, 0, 0, 1], 0).into(), Arc::new(registry)).await.unwrap();
        let address = server.local_addr().unwrap();
        let server = server.refreshed_by(move || {
            counter.inc();
            std::future::ready(())
        });
        let server = tokio::spawn(server.run());
        for times in 1..3 {
            let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            assert!(answer.contains(&format!("asked_total {times}\n")), "{answer}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_the_rest_is_served() {
        let (address, server) = start().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // An answer proves that this one has its slot.
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream.read_u8().await.unwrap();
            held.push(stream);
        }
        let mut beyond = TcpStream::connect(address).await.unwrap();
        assert_eq!(beyond.read(&mut [0; 16]).await.unwrap_or(0), 0, "closed without an answer");
        drop(held);
        server.abort();
    }
}
