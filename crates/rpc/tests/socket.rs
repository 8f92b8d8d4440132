//! Server and client over a real socket.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use rpc::{
    Board, Change, Client, ClientError, Code, Execute, Failure, Followed, Follower, Limits, Server, Service, Text,
    TunnelEvent, TunnelState, TunnelStatus, WatchTunnels,
    envelope::{Body, CallBody, Envelope},
    frame::EnvelopeCodec,
    hello,
};
use tempfile::TempDir;
use tokio::{net::UnixStream, sync::Notify, task::JoinHandle};
use tokio_util::codec::Framed;

type Tunnels = Board<String, TunnelStatus>;

struct Lab {
    directory: TempDir,
    tunnels: Tunnels,
    /// Events that `flood` has been allowed to send.
    flooded: Arc<AtomicUsize>,
    /// Told when a handler of `hang` is dropped.
    hung_up: Arc<Notify>,
    server: Option<JoinHandle<()>>,
}

struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Lab {
    fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut lab =
            Self { directory, tunnels: Tunnels::new(), flooded: Arc::default(), hung_up: Arc::default(), server: None };
        lab.serve(limits);
        lab
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("test.sock")
    }

    fn serve(&mut self, limits: Limits) {
        let (flooded, hung_up) = (self.flooded.clone(), self.hung_up.clone());
        let service = Service::new("testd")
            .stream::<Execute, _, _>(move |_, request, sink| {
                let (flooded, hung_up) = (flooded.clone(), hung_up.clone());
                async move {
                    match request.line.as_str() {
                        "count" => {
                            for number in 0..1000 {
                                sink.send(&Text(format!("{number}\n"))).await?;
                            }
                            Ok(())
                        }
                        "flood" => loop {
                            sink.send(&Text("x".repeat(Text::PIECE))).await?;
                            flooded.fetch_add(1, Ordering::SeqCst);
                        },
                        "hang" => {
                            let _hung_up = OnDrop(hung_up);
                            sink.send(&Text("hanging".into())).await?;
                            std::future::pending().await
                        }
                        "panic" => panic!("on request"),
                        "huge" => Ok(sink.send(&Text("x".repeat(2 << 20))).await?),
                        other => Err(Failure::new(Code::BadRequest, format!("unknown command: {other}"))),
                    }
                }
            })
            .watch::<WatchTunnels, _, _>(self.tunnels.clone(), |change| match change {
                Change::Set(_, status) => TunnelEvent::Status(status),
                Change::Removed(tunnel) => TunnelEvent::Removed(tunnel.parse().unwrap()),
                Change::Synced => TunnelEvent::Synced,
            });
        let server = Server::bind(&self.path(), service, limits).unwrap();
        self.server = Some(tokio::spawn(server.run()));
    }

    async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.path(), "test").await.unwrap()
    }

    fn set(&self, tunnel: &str, generation: u64) {
        self.tunnels.set(tunnel.to_owned(), status(tunnel, generation));
    }
}

fn status(tunnel: &str, generation: u64) -> TunnelStatus {
    TunnelStatus {
        tunnel: tunnel.parse().unwrap(),
        ifindex: 7,
        wan: "isp1".parse().unwrap(),
        state: TunnelState::Up { mtu: 1438, addresses: vec!["169.254.1.2".parse().unwrap()], selectors: vec![] },
        since_unix_us: 1,
        generation,
    }
}

fn execute(line: &str) -> Execute {
    Execute { line: line.to_owned() }
}

async fn failure(client: &Client, line: &str) -> Failure {
    let mut stream = client.stream(&execute(line)).await.unwrap();
    loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(ClientError::Failed(failure))) => return failure,
            other => panic!("{line}: expected a failure, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_longer_than_its_window_arrives_whole_and_in_order() {
    let lab = Lab::start(Limits::default());
    let client = lab.client().await;
    assert_eq!(client.hello().program, "testd");
    let mut stream = client.stream(&execute("count")).await.unwrap();
    let mut lines = 0;
    while let Some(text) = stream.next().await {
        assert_eq!(text.unwrap().0, format!("{lines}\n"));
        lines += 1;
    }
    assert_eq!(lines, 1000);
    assert!(stream.next().await.is_none(), "an ended stream stays ended");
}

#[tokio::test]
async fn refusals_name_what_was_wrong_and_leave_the_connection_alone() {
    let lab = Lab::start(Limits::default());
    let client = lab.client().await;
    assert_eq!(failure(&client, "nonsense").await, Failure::new(Code::BadRequest, "unknown command: nonsense"));
    assert_eq!(failure(&client, "panic").await.code, Code::Internal);
    assert_eq!(failure(&client, "huge").await.code, Code::Internal);
    assert_eq!(failure(&client, &"long ".repeat(1000)).await.code, Code::BadRequest);
    assert_eq!(failure(&client, "nonsense").await.code, Code::BadRequest, "the connection still works");
}

#[tokio::test]
async fn a_reader_that_stops_holds_up_nobody_but_its_own_stream() {
    let lab = Lab::start(Limits::default());
    let client = lab.client().await;
    let mut idle = client.stream(&execute("flood")).await.unwrap();
    idle.next().await.unwrap().unwrap();
    // Another stream of the same connection, and another connection, go on.
    for client in [&client, &lab.client().await] {
        let mut stream = client.stream(&execute("count")).await.unwrap();
        let mut lines = 0;
        while let Some(text) = stream.next().await {
            text.unwrap();
            lines += 1;
        }
        assert_eq!(lines, 1000);
    }
    assert!(lab.flooded.load(Ordering::SeqCst) <= 64, "more was sent than the reader asked for");
}

#[tokio::test]
async fn dropping_a_stream_ends_its_handler() {
    let lab = Lab::start(Limits::default());
    let client = lab.client().await;
    let mut stream = client.stream(&execute("hang")).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    lab.hung_up.notified().await;
    let mut stream = client.stream(&execute("hang")).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop((stream, client));
    lab.hung_up.notified().await;
}

#[tokio::test]
async fn a_follower_tells_a_loss_at_once_and_begins_anew_when_the_daemon_is_back() {
    let mut lab = Lab::start(Limits::default());
    lab.set("tun1", 1);
    let mut follower = Follower::new(lab.path(), "test", WatchTunnels);
    assert!(matches!(follower.next().await, Followed::Connected(hello) if hello.program == "testd"));
    assert!(matches!(follower.next().await, Followed::Event(TunnelEvent::Status(s)) if s == status("tun1", 1)));
    assert!(matches!(follower.next().await, Followed::Event(TunnelEvent::Synced)));
    lab.set("tun1", 2);
    assert!(matches!(follower.next().await, Followed::Event(TunnelEvent::Status(s)) if s == status("tun1", 2)));
    lab.tunnels.remove(&"tun1".to_owned());
    assert!(matches!(follower.next().await, Followed::Event(TunnelEvent::Removed(t)) if t.as_str() == "tun1"));

    lab.stop().await;
    assert!(matches!(follower.next().await, Followed::Lost(_)));
    lab.set("tun2", 1);
    lab.serve(Limits::default());
    assert!(matches!(follower.next().await, Followed::Connected(_)));
    assert!(matches!(follower.next().await, Followed::Event(TunnelEvent::Status(s)) if s.tunnel.as_str() == "tun2"));
    assert!(matches!(follower.next().await, Followed::Event(TunnelEvent::Synced)));
}

#[tokio::test]
async fn an_absent_daemon_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(directory.path().join("none.sock"), "test", WatchTunnels);
    assert!(matches!(follower.next().await, Followed::Lost(ClientError::Connect { .. })));
    let again = tokio::time::timeout(std::time::Duration::from_millis(200), follower.next()).await;
    assert!(again.is_err(), "the same loss was told again: {again:?}");
}

#[tokio::test]
async fn connections_and_calls_beyond_the_limit_are_refused_by_name() {
    let lab = Lab::start(Limits { connections: 1, calls: 2, ..Limits::default() });
    let client = lab.client().await;
    match Client::connect(&lab.path(), "test").await {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.code, Code::Busy),
        other => panic!("expected a refusal, got {other:?}"),
    }
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = client.stream(&execute("hang")).await.unwrap();
        stream.next().await.unwrap().unwrap();
        held.push(stream);
    }
    assert_eq!(failure(&client, "count").await.code, Code::Busy);
}

#[tokio::test]
async fn a_caller_without_a_common_version_is_told() {
    let lab = Lab::start(Limits::default());
    let mut raw = Framed::new(UnixStream::connect(lab.path()).await.unwrap(), EnvelopeCodec);
    let theirs = rpc::envelope::Hello { version: 99, oldest: 98, ..hello::ours("future") };
    raw.send(Envelope::new(0, Body::Hello(theirs))).await.unwrap();
    match raw.next().await.unwrap().unwrap().body {
        Some(Body::Error(error)) => assert_eq!(Code::from(error.code), Code::Version),
        other => panic!("expected an error, got {other:?}"),
    }
    assert!(raw.next().await.is_none(), "and the connection is closed");
}

#[tokio::test]
async fn callers_that_break_the_protocol_are_cut_off() {
    let lab = Lab::start(Limits::default());
    let greeted = || async {
        let mut raw = Framed::new(UnixStream::connect(lab.path()).await.unwrap(), EnvelopeCodec);
        raw.send(Envelope::new(0, Body::Hello(hello::ours("raw")))).await.unwrap();
        assert!(matches!(raw.next().await.unwrap().unwrap().body, Some(Body::Hello(_))));
        raw
    };
    let call = |id| {
        let request = rpc::wire::Wire::to_bytes(&execute("hang"));
        Envelope::new(id, Body::Call(CallBody { method: "execute".into(), request, credit: u32::MAX }))
    };
    // A call with the number of one that runs, a call about the connection, a frame that only servers send.
    for bad in [call(1), call(0), Envelope::new(5, Body::Reply(vec![1].into())), Envelope { id: 1, body: None }] {
        let mut raw = greeted().await;
        raw.send(call(1)).await.unwrap();
        raw.send(Envelope::new(1, Body::Credit(u32::MAX))).await.unwrap();
        raw.send(bad.clone()).await.unwrap();
        while let Some(Ok(_)) = raw.next().await {}
    }
    // No hello.
    let mut raw = Framed::new(UnixStream::connect(lab.path()).await.unwrap(), EnvelopeCodec);
    raw.send(call(1)).await.unwrap();
    assert!(matches!(raw.next().await.unwrap().unwrap().body, Some(Body::Error(_))));
    assert!(raw.next().await.is_none());
    // A method of another release.
    let mut raw = greeted().await;
    let method = "x".repeat(10_000);
    raw.send(Envelope::new(3, Body::Call(CallBody { method, request: Default::default(), credit: 0 }))).await.unwrap();
    match raw.next().await.unwrap().unwrap().body {
        Some(Body::Error(error)) => {
            assert_eq!(Code::from(error.code), Code::UnknownMethod);
            assert!(error.message.len() < 200);
        }
        other => panic!("expected an error, got {other:?}"),
    }
}

#[tokio::test]
async fn a_socket_is_not_taken_from_who_serves_it_but_from_the_dead() {
    let mut lab = Lab::start(Limits::default());
    let refused = Server::bind(&lab.path(), Service::new("second"), Limits::default());
    assert!(refused.unwrap_err().to_string().contains("in use"));
    lab.stop().await;
    // A process that was killed leaves the file and no listener.
    drop(std::os::unix::net::UnixListener::bind(lab.path()).unwrap());
    assert!(lab.path().exists());
    lab.serve(Limits::default());
    lab.client().await;
}
