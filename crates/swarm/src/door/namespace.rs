//! A thread inside a network namespace that makes sockets for others.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpStream},
    thread,
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the thread.
const QUEUE: usize = 256;

type Question = oneshot::Sender<io::Result<TcpStream>>;

/// A namespace that is entered. The thread ends with it.
#[derive(Debug)]
pub(super) struct Namespace {
    questions: mpsc::Sender<Question>,
}

impl Namespace {
    /// Enters the namespace of a process, which must have this address: a process id alone may by now be another's.
    pub(super) async fn enter(pid: u32, address: Ipv4Addr) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel(QUEUE);
        let (entered, told) = oneshot::channel();
        thread::Builder::new().name("door".to_owned()).stack_size(64 * 1024).spawn(move || {
            let begun = enter(pid, address);
            let is_inside = begun.is_ok();
            // Whoever asked may have gone; then there are no questions either.
            let _ = entered.send(begun);
            if is_inside {
                answer(asked);
            }
        })?;
        told.await.map_err(|_| io::Error::other("the thread of the namespace ended"))??;
        Ok(Self { questions })
    }

    /// A socket of the namespace, not connected yet.
    pub(super) async fn socket(&self) -> io::Result<TcpStream> {
        let gone = || io::Error::other("the thread of the namespace ended");
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn enter(pid: u32, address: Ipv4Addr) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    let has_address = getifaddrs()?
        .filter_map(|interface| interface.address?.as_sockaddr_in().map(|address| address.ip()))
        .any(|ip| ip == address);
    if !has_address {
        return Err(io::Error::other(format!("process {pid} is not where {address} is")));
    }
    Ok(())
}

fn answer(mut questions: mpsc::Receiver<Question>) {
    while let Some(question) = questions.blocking_recv() {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(AddressFamily::Inet, SockType::Stream, flags, None);
        // Who asked may have run out of time.
        let _ = question.send(made.map(TcpStream::from).map_err(io::Error::from));
    }
}
