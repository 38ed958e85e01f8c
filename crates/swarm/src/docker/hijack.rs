//! Two upgraded connections joined: what attach, exec and their kin become.

use std::{io, time::Duration};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, copy, split},
    time::timeout,
};

/// How long the client may go on sending after the engine has said its last word.
const LINGER: Duration = Duration::from_secs(10);

/// Joins the two ends as soon as both are upgraded.
pub(crate) fn join(client: OnUpgrade, engine: OnUpgrade) {
    tokio::spawn(async move {
        match tokio::try_join!(client, engine) {
            Ok((client, engine)) => {
                if let Err(error) = relay(client, engine).await {
                    tracing::debug!(%error, "a joined connection ended");
                }
            }
            Err(error) => tracing::debug!(%error, "a connection could not be joined"),
        }
    });
}

/// Either end may close its half: a pipe into a container ends while its output goes on.
async fn relay(client: Upgraded, engine: Upgraded) -> io::Result<()> {
    let (mut from_client, mut to_client) = split(TokioIo::new(client));
    let (mut from_engine, mut to_engine) = split(TokioIo::new(engine));
    let up = async {
        copy(&mut from_client, &mut to_engine).await?;
        to_engine.shutdown().await
    };
    let down = async {
        copy(&mut from_engine, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::pin!(up, down);
    tokio::select! {
        sent = &mut up => match sent {
            Ok(()) => down.await,
            // The client is gone without a farewell: nobody reads what is to come.
            Err(error) => Err(error),
        },
        received = &mut down => {
            received?;
            timeout(LINGER, up).await.unwrap_or(Ok(()))
        }
    }
}
