//! A BMP station: takes connections and keeps what it is told, as both our decoder and another one read it.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use bgpkit_parser::parse_bmp_msg;
use bgpkit_parser::parser::bmp::messages::BmpMessage;
use bmp::frame_length;
use bytes::{Bytes, BytesMut};

use crate::node::Node;

/// What one connection has brought, each message as either decoder reads it.
pub type Messages = Vec<(bmp::Message, BmpMessage)>;

/// A station in a node. It ends with the lab.
#[derive(Clone, Debug, Default)]
pub struct Station {
    /// By connection; a message that cannot be read ends its connection and is kept as the error.
    connections: Arc<Mutex<Vec<Result<Messages, String>>>>,
}

impl Station {
    /// Listens at a port of the node.
    pub fn start(node: &Node, port: u16) -> Result<Self> {
        let listener = node.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?.context("cannot listen")?;
        let station = Self::default();
        let connections = Arc::clone(&station.connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = {
                    let mut all = connections.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(Ok(Messages::new()));
                    all.len() - 1
                };
                let connections = Arc::clone(&connections);
                std::thread::spawn(move || serve(stream, number, &connections));
            }
        });
        Ok(station)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What the newest connection has brought.
    pub fn messages(&self) -> Result<Messages> {
        let all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match all.last() {
            Some(Ok(messages)) => Ok(messages.clone()),
            Some(Err(error)) => Err(anyhow!("a message that cannot be read: {error}")),
            None => Err(anyhow!("nobody has connected")),
        }
    }
}

fn serve(mut stream: impl Read, number: usize, connections: &Mutex<Vec<Result<Messages, String>>>) {
    let (mut input, mut piece) = (BytesMut::new(), vec![0; 64 * 1024]);
    while let Ok(octets @ 1..) = stream.read(&mut piece) {
        input.extend_from_slice(&piece[..octets]);
        loop {
            let read = match frame_length(&input) {
                Ok(Some(length)) if length <= input.len() => read(input.split_to(length).freeze()),
                Ok(_) => break,
                Err(error) => Err(error.to_string()),
            };
            let mut all = connections.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut all[number], read) {
                (Ok(messages), Ok(message)) => messages.push(message),
                (entry, Err(error)) => {
                    *entry = Err(error);
                    return;
                }
                (Err(_), Ok(_)) => return,
            }
        }
    }
}

/// Both decoders have to read it.
fn read(frame: Bytes) -> Result<(bmp::Message, BmpMessage), String> {
    let ours = bmp::Message::parse(&frame).map_err(|error| error.to_string())?;
    let theirs = parse_bmp_msg(&mut frame.clone()).map_err(|error| format!("{error}: {frame:02x?}"))?;
    Ok((ours, theirs))
}
