//! The first two lines of a connection: who the agent is, and whether it may stay.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    time::timeout,
};

/// Version of what follows the handshake; both sides must say the same.
pub const PROTOCOL: u32 = 1;
/// Longest line of a handshake, in bytes.
pub const LINE_BYTES_MAX: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const MACHINE_ID_BYTES_MAX: usize = 128;
const TOKEN_BYTES_MAX: usize = 512;
const BOOT_ID_BYTES_MAX: usize = 64;

/// What an agent says first.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Which machine this is.
    pub machine_id: String,
    /// The secret that proves it.
    pub token: String,
    /// Random per start of the agent.
    pub boot_id: String,
}

// The token must not reach a log.
impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("protocol", &self.protocol)
            .field("machine_id", &self.machine_id)
            .field("boot_id", &self.boot_id)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    #[serde(default)]
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The machine was one of the server's and is none any more. Only believed of a server that has proved who it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The other side said nothing in time.
    #[error("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    /// The line is not a handshake.
    #[error("not a handshake: {0}")]
    Malformed(String),
    /// The server does not want this agent.
    #[error("the server refused this agent: {0}")]
    Refused(String),
    /// The server says that this machine has left its cluster.
    #[error("the server says that this machine has been removed from its cluster")]
    Removed,
}

/// What the server thinks of an agent that introduced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may stay.
    Welcome,
    /// It is not who it says, or nobody who is known.
    Unknown,
    /// It is who it says, and was removed from its cluster.
    Removed,
}

impl Hello {
    /// Reads the agent's line (without its end).
    pub fn parse(line: &[u8]) -> Result<Self, HandshakeError> {
        let hello: Self = serde_json::from_slice(line).map_err(|error| HandshakeError::Malformed(error.to_string()))?;
        let malformed = |what: String| Err(HandshakeError::Malformed(what));
        if hello.protocol != PROTOCOL {
            return malformed(format!("protocol {} is spoken by the agent, {PROTOCOL} here", hello.protocol));
        }
        let id = &hello.machine_id;
        if id.is_empty()
            || id.len() > MACHINE_ID_BYTES_MAX
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        {
            return malformed("machine_id is not a machine id".into());
        }
        if hello.token.len() > TOKEN_BYTES_MAX || hello.boot_id.len() > BOOT_ID_BYTES_MAX {
            return malformed("token or boot_id is too long".into());
        }
        Ok(hello)
    }
}

/// The agent's side: introduces itself and waits for the answer. The result still holds what was read beyond it.
pub(crate) async fn introduce<S>(io: S, hello: &Hello) -> Result<BufReader<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut io = BufReader::new(io);
    let exchange = async {
        write_line(&mut io, hello).await?;
        let line = read_line(&mut io).await?;
        serde_json::from_slice::<Answer>(&line).map_err(|error| HandshakeError::Malformed(error.to_string()))
    };
    let answer = timeout(HANDSHAKE_TIMEOUT, exchange).await.map_err(|_| HandshakeError::TimedOut)??;
    match answer {
        Answer { ok: true, error: None, .. } => Ok(io),
        Answer { removed: true, .. } => Err(HandshakeError::Removed),
        Answer { error, .. } => Err(HandshakeError::Refused(error.unwrap_or_else(|| "no reason given".into()))),
    }
}

/// The server's side: reads who it is, asks `verify`, answers.
pub(crate) async fn admit<S>(
    io: S,
    verify: impl FnOnce(&Hello) -> Verdict,
) -> Result<(BufReader<S>, Hello), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut io = BufReader::new(io);
    let exchange = async {
        let line = read_line(&mut io).await?;
        let verdict = Hello::parse(&line).and_then(|hello| match verify(&hello) {
            Verdict::Welcome => Ok(hello),
            Verdict::Unknown => Err(HandshakeError::Refused("unknown machine or wrong token".into())),
            Verdict::Removed => Err(HandshakeError::Removed),
        });
        let error = match &verdict {
            Ok(_) => None,
            Err(HandshakeError::Refused(reason)) => Some(reason.clone()),
            Err(error) => Some(error.to_string()),
        };
        let removed = matches!(verdict, Err(HandshakeError::Removed));
        let answer = Answer { ok: error.is_none(), error, removed };
        write_line(&mut io, &answer).await?;
        verdict
    };
    let hello = timeout(HANDSHAKE_TIMEOUT, exchange).await.map_err(|_| HandshakeError::TimedOut)??;
    Ok((io, hello))
}

async fn write_line(io: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> Result<(), HandshakeError> {
    let mut line = serde_json::to_vec(value).map_err(|error| HandshakeError::Malformed(error.to_string()))?;
    line.push(b'\n');
    io.write_all(&line).await?;
    Ok(io.flush().await?)
}

async fn read_line(io: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, HandshakeError> {
    let mut line = Vec::new();
    loop {
        let buffer = io.fill_buf().await?;
        if buffer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if line.len() + part.len() > LINE_BYTES_MAX {
            return Err(HandshakeError::Malformed(format!("a line longer than {LINE_BYTES_MAX} bytes")));
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        io.consume(used);
        if end.is_some() {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello { protocol: PROTOCOL, machine_id: "i-1".into(), token: "secret".into(), boot_id: "b".into() }
    }

    #[tokio::test]
    async fn both_sides_agree_and_nothing_read_ahead_is_lost() {
        let (agent, server) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            let (mut io, hello) = admit(server, |hello| match hello.token == "secret" {
                true => Verdict::Welcome,
                false => Verdict::Unknown,
            })
            .await
            .unwrap();
            io.write_all(b"next").await.unwrap();
            hello
        });
        let mut io = introduce(agent, &hello()).await.unwrap();
        let mut next = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut io, &mut next).await.unwrap();
        assert_eq!(&next, b"next");
        assert_eq!(server.await.unwrap(), hello());
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let (agent, server) = tokio::io::duplex(1024);
        let server = tokio::spawn(admit(server, |_| Verdict::Unknown));
        let refused = introduce(agent, &hello()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the server refused this agent: unknown machine or wrong token");
        assert!(matches!(server.await.unwrap(), Err(HandshakeError::Refused(_))));
    }

    #[tokio::test]
    async fn a_removed_machine_is_told_so() {
        let (agent, server) = tokio::io::duplex(1024);
        let server = tokio::spawn(admit(server, |_| Verdict::Removed));
        assert!(matches!(introduce(agent, &hello()).await, Err(HandshakeError::Removed)));
        assert!(matches!(server.await.unwrap(), Err(HandshakeError::Removed)));
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_off() {
        let (mut agent, server) = tokio::io::duplex(64);
        let server = tokio::spawn(admit(server, |_| Verdict::Welcome));
        let sent = tokio::spawn(async move { while agent.write_all(&[b'x'; 64]).await.is_ok() {} });
        assert!(matches!(server.await.unwrap(), Err(HandshakeError::Malformed(_))));
        sent.await.unwrap();
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", hello()).contains("secret"));
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Hello::parse(&line);
        }

        #[test]
        fn a_well_formed_line_round_trips(id in "[a-zA-Z0-9._-]{1,60}", token in ".{0,60}", boot in "[a-f0-9-]{0,36}") {
            let hello = Hello { protocol: PROTOCOL, machine_id: id, token, boot_id: boot };
            let line = serde_json::to_vec(&hello).unwrap();
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(Hello::parse(&line).unwrap(), hello);
        }

        #[test]
        fn ids_with_other_characters_are_refused(id in "[a-z]{0,5}[/ \\\\:\n\u{e9}][a-z]{0,5}") {
            let hello = Hello { machine_id: id, ..hello() };
            prop_assert!(Hello::parse(&serde_json::to_vec(&hello).unwrap()).is_err());
        }
    }
}
