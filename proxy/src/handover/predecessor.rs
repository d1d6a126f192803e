//! The pgherd that runs, seen by the one that starts.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::{Estate, Link, Message, Met, Reception};
use crate::cancel::Neighbour;

/// How long the one that runs may take to give its sockets.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// The log tells of one that does not stand aside after this time.
const TELLS_AFTER: Duration = Duration::from_secs(5);

/// Who serves at present.
#[derive(Debug)]
pub(crate) struct Predecessor(Link);

impl Predecessor {
    /// Finds who listens at this path, and gets its listening sockets. None if nobody does.
    ///
    /// # Errors
    /// When somebody does, and does not answer: it may serve, and decide, all the same.
    pub(crate) async fn find(path: &Path) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        Self::greet(path).await.map_err(|error| {
            let what = format!(
                "runtime.handover: the pgherd that listens at {} hands nothing over: {error}. End it first, or try again",
                path.display()
            );
            io::Error::new(error.kind(), what)
        })
    }

    async fn greet(path: &Path) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        let Some(link) = Link::connect(path)? else { return Ok(None) };
        let asked = async {
            link.send(&Message::Hello).await?;
            link.receive().await
        };
        match timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(Some((Message::Sockets, sockets)))) => Ok(Some((Self(link), sockets))),
            Ok(Ok(Some(_))) => Err(io::ErrorKind::InvalidData.into()),
            // It may have ended just now.
            Ok(_) if Link::connect(path)?.is_none() => Ok(None),
            Ok(Ok(None)) => Err(io::Error::other("it has closed the connection, or belongs to another user")),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWERS_WITHIN:?}")))
            }
        }
    }

    /// Takes its place: has it stop accepting, and decides about the servers once it does not. This one must accept already, and
    /// is the one to take over from when this has ended.
    ///
    /// # Errors
    /// When it cannot be told whether the other still decides, or nobody could take over from this one; it does not decide then.
    pub(super) async fn succeed(self, path: &Path, estate: &Estate<'_>) -> io::Result<(Met, Reception)> {
        let mut older = estate.household.meet(self.0, Neighbour::Older);
        // One that has ended meanwhile is met below.
        let _ = older.say(&Message::Ready).await;
        // Only of a process that has ended nobody listens there: one that is stopped, or slow, is waited for.
        if !stands_aside(&mut older).await && Link::connect(path)?.is_some() {
            return Err(io::Error::other("runtime.handover: the pgherd that runs has changed its mind"));
        }
        let reception = Reception::open(path)?;
        // Before this one decides: from here on the other never will again. One that has ended needs not be told.
        let _ = older.say(&Message::Serving).await;
        estate.control.lead().await;
        Ok((older, reception))
    }
}

/// True once it has said so, false when it has ended. However long it takes: it may be stopped, and go on later.
async fn stands_aside(older: &mut Met) -> bool {
    if let Ok(answer) = timeout(TELLS_AFTER, older.says(&Message::Aside)).await {
        return answer;
    }
    tracing::warn!(
        "the pgherd that ran before has not stood aside yet: this one serves, and decides no failover until it has, or has ended"
    );
    older.says(&Message::Aside).await
}
