//! `sampan app logs`: what an application's containers write, merged line by line.

use std::io::Write as _;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::Target;
use crate::{
    master::Master,
    output::{entries, scalar},
};

/// Longest line that is held back until it ends.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the head of a frame: stream, three zeroes, length.
const FRAME_HEAD: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) target: Target,
    /// Only of this service
    service: Option<String>,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// Begin so many lines before the end
    #[arg(long, default_value = "all")]
    tail: String,
}

/// Lines of one container.
struct Source {
    id: String,
    name: String,
    has_terminal: bool,
}

pub(super) async fn run(master: &Master, arguments: &Arguments) -> anyhow::Result<()> {
    let sources = sources(master, arguments).await?;
    if sources.is_empty() {
        bail!("application {} has no containers to read from", arguments.target.name);
    }
    let width = sources.iter().map(|source| source.name.len()).max().unwrap_or_default();
    let (lines, mut arriving) = mpsc::channel::<(String, Vec<u8>)>(64);
    let readers = sources.iter().map(|source| read(master, arguments, source, lines.clone()));
    let readers = futures_of(readers.collect());
    drop(lines);
    let print = async {
        let mut out = std::io::stdout();
        while let Some((name, line)) = arriving.recv().await {
            let mut text = format!("{name:width$} | ").into_bytes();
            text.extend_from_slice(&line);
            text.push(b'\n');
            out.write_all(&text)?;
        }
        anyhow::Ok(())
    };
    let (read, printed) = tokio::join!(readers, print);
    printed.context("standard output")?;
    read
}

async fn futures_of<F: Future<Output = anyhow::Result<()>>>(all: Vec<F>) -> anyhow::Result<()> {
    let mut all: Vec<_> = all.into_iter().map(|one| Some(Box::pin(one))).collect();
    let mut failure = None;
    std::future::poll_fn(|context| {
        for slot in &mut all {
            if let Some(one) = slot
                && let std::task::Poll::Ready(done) = one.as_mut().poll(context)
            {
                failure = failure.take().or(done.err());
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    failure.map_or(Ok(()), Err)
}

async fn sources(master: &Master, arguments: &Arguments) -> anyhow::Result<Vec<Source>> {
    let project = master.json("GET", &format!("/projects/{}", arguments.target.name), None).await?;
    let mut sources = Vec::new();
    for service in entries(&project["services"]) {
        if arguments.service.as_ref().is_some_and(|wanted| service["name"] != wanted.as_str()) {
            continue;
        }
        let Some(containers) = service["containers"].as_object() else { continue };
        for (id, container) in containers {
            let inspected = master.json("GET", &format!("/containers/{id}/json"), None).await?;
            let has_terminal = inspected["Config"]["Tty"].as_bool().unwrap_or_default();
            let name = scalar(&container["name"]).trim_start_matches('/').to_owned();
            sources.push(Source { id: id.clone(), name, has_terminal });
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

async fn read(
    master: &Master,
    arguments: &Arguments,
    source: &Source,
    lines: mpsc::Sender<(String, Vec<u8>)>,
) -> anyhow::Result<()> {
    let (follow, tail) = (arguments.follow, &arguments.tail);
    let path = format!("/containers/{}/logs?stdout=1&stderr=1&follow={follow}&tail={tail}", source.id);
    let mut body: Incoming = master.send("GET", &path, None).await?.into_body();
    let mut splitter = Splitter::new(source.has_terminal);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| anyhow!("the log of {} broke off: {error}", source.name))?;
        if let Ok(data) = frame.into_data() {
            for line in splitter.push(&data) {
                if lines.send((source.name.clone(), line)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    if let Some(line) = splitter.rest() {
        let _ = lines.send((source.name.clone(), line)).await;
    }
    Ok(())
}

/// Takes Docker's frames apart (there are none with a terminal) and cuts what they carry into lines.
struct Splitter {
    framed: bool,
    head: Vec<u8>,
    left: usize,
    line: Vec<u8>,
}

impl Splitter {
    fn new(has_terminal: bool) -> Self {
        Self { framed: !has_terminal, head: Vec::new(), left: 0, line: Vec::new() }
    }

    fn push(&mut self, mut data: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        if !self.framed {
            self.text(data, &mut lines);
            return lines;
        }
        while !data.is_empty() {
            if self.left == 0 {
                let taken = (FRAME_HEAD - self.head.len()).min(data.len());
                self.head.extend_from_slice(&data[..taken]);
                data = &data[taken..];
                if let [_, _, _, _, length @ ..] = self.head.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    self.left = u32::from_be_bytes(length) as usize;
                    self.head.clear();
                }
                continue;
            }
            let taken = self.left.min(data.len());
            self.text(&data[..taken], &mut lines);
            self.left -= taken;
            data = &data[taken..];
        }
        lines
    }

    fn text(&mut self, text: &[u8], lines: &mut Vec<Vec<u8>>) {
        for part in text.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE_BYTES_MAX {
                while self.line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                    self.line.pop();
                }
                lines.push(std::mem::take(&mut self.line));
            }
        }
    }

    fn rest(self) -> Option<Vec<u8>> {
        if self.line.is_empty() { None } else { Some(self.line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Vec<u8> {
        let mut frame = vec![1, 0, 0, 0];
        frame.extend_from_slice(&(text.len() as u32).to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    #[test]
    fn frames_cut_anywhere_give_the_same_lines() {
        let mut stream = frame("one\ntw");
        stream.extend(frame(""));
        stream.extend(frame("o\nthree"));
        for size in 1..stream.len() {
            let mut splitter = Splitter::new(false);
            let mut lines: Vec<_> = stream.chunks(size).flat_map(|chunk| splitter.push(chunk)).collect();
            lines.extend(splitter.rest());
            assert_eq!(lines, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()], "pieces of {size}");
        }
    }

    #[test]
    fn terminals_have_no_frames() {
        let mut splitter = Splitter::new(true);
        assert_eq!(splitter.push(b"a\r\nb"), [b"a".to_vec()]);
        assert_eq!(splitter.rest(), Some(b"b".to_vec()));
    }
}
