//! A thread inside a network namespace that makes sockets for others.

use std::{
    ffi::OsString,
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt},
};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the thread.
const QUEUE: usize = 256;
const STACK_BYTES: usize = 128 * 1024;

/// What the thread is asked for.
enum Question {
    /// A socket, not connected yet.
    Socket(oneshot::Sender<io::Result<TcpStream>>),
    /// A socket that listens at this port.
    Listener(u16, oneshot::Sender<io::Result<TcpListener>>),
}

/// A namespace that is entered. The thread ends with it.
#[derive(Debug)]
pub(super) struct Namespace {
    questions: mpsc::Sender<Question>,
    pid: u32,
    inode: u64,
}

impl Namespace {
    /// Enters the namespace of a process, which must have this address: a process id alone may by now be another's.
    pub(super) async fn enter(pid: u32, address: Ipv4Addr) -> io::Result<Self> {
        let inode = inode_of(pid)?;
        let (questions, asked) = mpsc::channel(QUEUE);
        let (entered, told) = oneshot::channel();
        let inside = move || {
            let (begun, device) = match enter(pid, address) {
                Ok(device) => (Ok(()), Some(device)),
                Err(error) => (Err(error), None),
            };
            // Whoever asked may have gone; then there are no questions either.
            let _ = entered.send(begun);
            if let Some(device) = device {
                answer(asked, &device, address);
            }
        };
        thread::Builder::new().name("door".to_owned()).stack_size(STACK_BYTES).spawn(inside)?;
        told.await.map_err(|_| io::Error::other("the thread of the namespace ended"))??;
        Ok(Self { questions, pid, inode })
    }

    /// Whether the process is still there.
    pub(super) fn is_alive(&self) -> bool {
        inode_of(self.pid).is_ok_and(|inode| inode == self.inode)
    }

    /// A socket of the namespace, not connected yet.
    pub(super) async fn socket(&self) -> io::Result<TcpStream> {
        self.ask(Question::Socket).await
    }

    /// Listens at a port of the address in the namespace.
    pub(super) async fn listener(&self, port: u16) -> io::Result<TcpListener> {
        self.ask(|answer| Question::Listener(port, answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Question) -> io::Result<T> {
        let gone = || io::Error::other("the thread of the namespace ended");
        let (sender, answer) = oneshot::channel();
        self.questions.send(question(sender)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn path_of(pid: u32) -> String {
    format!("/proc/{pid}/ns/net")
}

fn inode_of(pid: u32) -> io::Result<u64> {
    Ok(std::fs::metadata(path_of(pid))?.ino())
}

/// Enters the namespace and answers the name of the interface that has the address.
fn enter(pid: u32, address: Ipv4Addr) -> io::Result<OsString> {
    let namespace = File::open(path_of(pid))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    getifaddrs()?
        .find(|interface| {
            let ip =
                interface.address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|address| address.ip());
            ip == Some(address)
        })
        .map(|interface| interface.interface_name.into())
        .ok_or_else(|| io::Error::other(format!("process {pid} is not where {address} is")))
}

fn answer(mut questions: mpsc::Receiver<Question>, device: &OsString, address: Ipv4Addr) {
    while let Some(question) = questions.blocking_recv() {
        // Who asked may have run out of time.
        match question {
            Question::Socket(answer) => drop(answer.send(make(device))),
            Question::Listener(port, answer) => drop(answer.send(listen(address, port))),
        }
    }
}

fn listen(address: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((address, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket that uses the overlay and nothing else. Engines give such containers a second interface, with the default
/// route; a connection to a container's address must not leave by it when the overlay has been taken away.
fn make(device: &OsString) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::BindToDevice, device)?;
    Ok(TcpStream::from(socket))
}
