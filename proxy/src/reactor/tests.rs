use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a main future on an event loop of this thread.
fn run<T: 'static, O>(main: impl AsyncFnOnce(Rc<Tasks<T>>) -> O) -> O {
    let tasks = Tasks::new().unwrap();
    tasks.run(main(Rc::clone(&tasks))).unwrap()
}

/// A connection: the end that is watched, and the other.
fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    (Socket::new(near).unwrap(), far)
}

/// Lets the other side act after a while, when the task already waits.
fn later(act: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        act();
    });
}

#[test]
fn a_task_waits_for_bytes_and_gets_them_all() {
    run(async |tasks| {
        let (mut socket, mut far) = pair();
        later(move || {
            for byte in 0..100_u8 {
                far.write_all(&[byte; 1000]).unwrap();
            }
        });
        tasks.spawn(async move {
            let mut bytes = vec![0; 100_000];
            socket.read_exact(&mut bytes).await.unwrap();
            assert!(bytes.chunks(1000).zip(0..).all(|(part, byte)| part == [byte; 1000]));
            assert_eq!(socket.read(&mut bytes).await.unwrap(), 0, "the other side has ended");
        });
        assert_eq!(tasks.next_ended().await, Some(Ok(())));
        assert_eq!(tasks.next_ended().await, None);
    });
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen_behind_them() {
    run(async |tasks| {
        for _ in 0..20 {
            let (mut socket, mut far) = pair();
            far.write_all(b"last words").unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            tasks.spawn(async move {
                let mut bytes = [0; 64];
                assert_eq!(socket.read(&mut bytes).await.unwrap(), 10);
                assert_eq!(socket.read(&mut bytes).await.unwrap(), 0);
                assert_eq!(socket.read(&mut bytes).await.unwrap(), 0, "and again");
                assert!(socket.poll_gone().is_ready());
                drop(far);
            });
            assert_eq!(tasks.next_ended().await, Some(Ok(())));
        }
    });
}

#[test]
fn a_task_waits_until_there_is_room_to_write() {
    run(async |tasks| {
        let (mut socket, mut far) = pair();
        let bytes = vec![7; 20_000_000];
        let sent = bytes.clone();
        tasks.spawn(async move { socket.write_all(&sent).await.unwrap() });
        let (received, got) = oneshot::channel();
        later(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            received.send(all).unwrap();
        });
        assert_eq!(tasks.next_ended().await, Some(Ok(())));
        assert!(got.await.unwrap() == bytes);
    });
}

#[test]
fn what_a_peer_has_sent_is_no_reason_to_think_it_gone() {
    run::<(), _>(async |tasks| {
        let (socket, mut far) = pair();
        assert!(socket.poll_gone().is_pending() && socket.is_quiet());
        far.write_all(b"x").unwrap();
        while socket.is_quiet() {
            tasks.pause(Duration::from_millis(1)).await;
        }
        assert!(socket.poll_gone().is_pending());
        assert!(socket.poll_recv(&mut [0; 8]).is_ready());
        assert!(socket.is_quiet());
        drop(far);
        while socket.poll_gone().is_pending() {
            tasks.pause(Duration::from_millis(1)).await;
        }
        assert!(!socket.is_quiet());
    });
}

#[test]
fn a_connection_is_made_or_refused() {
    run(async |tasks| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move { Socket::connect(address).await.map(|_| ()) });
        assert!(tasks.next_ended().await.unwrap().unwrap().is_ok());
        drop(listener);
        tasks.spawn(async move { Socket::connect(address).await.map(|_| ()) });
        let refused = tasks.next_ended().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_socket_goes_on_in_another_loop() {
    let (stream, mut far) = run::<(), _>(async |_| {
        let (socket, mut far) = pair();
        far.write_all(b"one").unwrap();
        (socket.detach().unwrap(), far)
    });
    run(async |tasks| {
        let mut socket = Socket::new(stream).unwrap();
        later(move || far.write_all(b"two").unwrap());
        tasks.spawn(async move {
            let mut bytes = [0; 6];
            socket.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"onetwo");
        });
        assert_eq!(tasks.next_ended().await, Some(Ok(())));
    });
}

#[test]
fn an_event_of_a_socket_that_is_gone_is_nobody_elses() {
    run::<(), _>(async |_| {
        let reactor = here().unwrap();
        let (gone, mut far) = pair();
        let key = gone.stream().as_fd().try_clone_to_owned().unwrap();
        far.write_all(b"x").unwrap();
        drop(gone);
        let (next, _far) = pair();
        // The same descriptor's worth of room, the same number, and nothing of what came for the other.
        assert!(next.is_quiet());
        let mut events = Vec::with_capacity(8);
        let mut due = Vec::new();
        reactor.turn(&mut events, Some(Duration::ZERO), |task| due.push(task)).unwrap();
        assert_eq!(due.len(), 1, "{due:?}: the room to write of the one that is there");
        assert!(next.is_quiet());
        drop(key);
    });
}

#[test]
fn a_panic_ends_its_own_task_only() {
    run(async |tasks| {
        let (awaited, come) = oneshot::channel();
        tasks.spawn(async { panic!("on purpose") });
        tasks.spawn(async move { come.await.unwrap() });
        assert_eq!(tasks.next_ended().await, Some(Err(Panicked)));
        later(move || awaited.send(7).unwrap());
        assert_eq!(tasks.next_ended().await, Some(Ok(7)));
        assert_eq!(tasks.len(), 0);
    });
}

#[test]
fn a_task_that_wakes_itself_lets_others_have_their_turn() {
    run(async |tasks| {
        let turns = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let turns = Rc::clone(&turns);
            tasks.spawn(async move {
                for turn in 0..100 {
                    assert!((turn * 3..=turn * 3 + 2).contains(&turns.replace(turns.get() + 1)));
                    let mut again = true;
                    std::future::poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if std::mem::take(&mut again) {
                            std::task::Poll::Pending
                        } else {
                            std::task::Poll::Ready(())
                        }
                    })
                    .await;
                }
            });
        }
        for _ in 0..3 {
            assert_eq!(tasks.next_ended().await, Some(Ok(())));
        }
    });
}

#[test]
fn wakes_from_other_threads_are_not_lost() {
    run(async |tasks| {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        tasks.spawn(async move {
            let mut count = 0;
            while receiver.recv().await.is_some() {
                count += 1;
            }
            count
        });
        std::thread::spawn(move || (0..100_000).for_each(|number| sender.blocking_send(number).unwrap()));
        assert_eq!(tasks.next_ended().await, Some(Ok(100_000)));
    });
}

#[test]
fn all_are_woken_and_a_pause_takes_its_time() {
    run(async |tasks| {
        let over = Rc::new(Cell::new(false));
        for _ in 0..10 {
            let over = Rc::clone(&over);
            tasks.spawn(std::future::poll_fn(move |_| {
                if over.get() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            }));
        }
        let begun = Instant::now();
        tasks.pause(Duration::from_millis(20)).await;
        assert!((Duration::from_millis(20)..PATIENCE).contains(&begun.elapsed()));
        assert_eq!(tasks.len(), 10);
        over.set(true);
        tasks.wake_all();
        for _ in 0..10 {
            assert_eq!(tasks.next_ended().await, Some(Ok(())));
        }
    });
}
