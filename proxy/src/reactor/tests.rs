use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a main future on an event loop of this thread.
fn run<T: 'static, O>(main: impl AsyncFnOnce(&Executor<T>) -> O) -> O {
    let executor = Executor::new(Instant::now()).unwrap();
    executor.block_on(main(&executor)).unwrap()
}

/// A connection: the end that an event loop watches, and the other.
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
    run(async |executor| {
        let (mut socket, mut far) = pair();
        later(move || {
            for byte in 0..100_u8 {
                far.write_all(&[byte; 1000]).unwrap();
            }
        });
        executor.spawn(async move {
            let mut bytes = vec![0; 100_000];
            socket.read_exact(&mut bytes).await.unwrap();
            assert!(bytes.chunks(1000).zip(0..).all(|(part, byte)| part == [byte; 1000]));
            assert_eq!(socket.read(&mut bytes).await.unwrap(), 0, "the other side has ended");
        });
        assert_eq!(executor.next_ended().await, Some(Ok(())));
        assert_eq!(executor.next_ended().await, None);
    });
}

#[test]
fn a_peer_whose_machine_is_gone_is_missed_as_soon_as_is_wanted() {
    run(async |_: &Executor<()>| {
        let options = crate::config::Tcp {
            keepalive: true,
            keepalive_count: Some(3),
            keepalive_idle: Some(Duration::from_secs(40)),
            keepalive_interval: Some(Duration::from_secs(5)),
            user_timeout: Some(Duration::from_millis(7500)),
        };
        let (socket, _far) = pair();
        socket.set_options(&options).unwrap();
        let set = socket2::SockRef::from(&socket);
        assert!(set.keepalive().unwrap() && set.tcp_nodelay().unwrap());
        assert_eq!(set.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(set.tcp_keepalive_time().unwrap(), Duration::from_secs(40));
        assert_eq!(set.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(set.tcp_user_timeout().unwrap(), Some(Duration::from_millis(7500)));
        let (other, _far) = pair();
        other.set_options(&crate::config::Tcp { keepalive: false, ..options }).unwrap();
        assert!(!socket2::SockRef::from(&other).keepalive().unwrap());
    });
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen_behind_them() {
    run(async |executor| {
        for _ in 0..20 {
            let (mut socket, mut far) = pair();
            far.write_all(b"last words").unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            executor.spawn(async move {
                let mut bytes = [0; 64];
                assert_eq!(socket.read(&mut bytes).await.unwrap(), 10);
                assert_eq!(socket.read(&mut bytes).await.unwrap(), 0);
                assert_eq!(socket.read(&mut bytes).await.unwrap(), 0, "and again");
                assert!(socket.poll_closed().is_ready());
                drop(far);
            });
            assert_eq!(executor.next_ended().await, Some(Ok(())));
        }
    });
}

#[test]
fn a_task_waits_until_there_is_room_to_write() {
    run(async |executor| {
        let (mut socket, mut far) = pair();
        let bytes = vec![7; 20_000_000];
        let sent = bytes.clone();
        executor.spawn(async move { socket.write_all(&sent).await.unwrap() });
        let (received, got) = oneshot::channel();
        later(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            received.send(all).unwrap();
        });
        assert_eq!(executor.next_ended().await, Some(Ok(())));
        assert!(got.await.unwrap() == bytes);
    });
}

#[test]
fn what_a_peer_has_sent_is_no_reason_to_think_it_gone() {
    run::<(), _>(async |executor| {
        let (socket, mut far) = pair();
        assert!(socket.poll_closed().is_pending() && socket.is_quiet());
        far.write_all(b"x").unwrap();
        while socket.is_quiet() {
            executor.sleep(Duration::from_millis(1)).await;
        }
        assert!(socket.poll_closed().is_pending());
        assert!(socket.poll_recv(&mut [0; 8]).is_ready());
        assert!(socket.is_quiet());
        drop(far);
        while socket.poll_closed().is_pending() {
            executor.sleep(Duration::from_millis(1)).await;
        }
        assert!(!socket.is_quiet());
    });
}

#[test]
fn a_connection_is_made_or_refused() {
    run(async |executor| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        executor.spawn(async move { Socket::connect(address).await.map(|_| ()) });
        assert!(executor.next_ended().await.unwrap().unwrap().is_ok());
        drop(listener);
        executor.spawn(async move { Socket::connect(address).await.map(|_| ()) });
        let refused = executor.next_ended().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_socket_goes_on_in_another_loop() {
    let (first_loop, mut socket, mut far) = run::<(), _>(async |_| {
        let (socket, mut far) = pair();
        far.write_all(b"one").unwrap();
        (current_reactor().unwrap(), socket, far)
    });
    run(async |executor| {
        socket.move_here().unwrap();
        assert!(first_loop.registrations.lock().sockets.is_empty());
        later(move || far.write_all(b"two").unwrap());
        executor.spawn(async move {
            let mut bytes = [0; 6];
            socket.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"onetwo");
        });
        assert_eq!(executor.next_ended().await, Some(Ok(())));
    });
}

#[test]
fn an_event_of_a_socket_that_is_gone_is_nobody_elses() {
    run::<(), _>(async |_| {
        let reactor = current_reactor().unwrap();
        let (gone, mut far) = pair();
        // As the handle that cuts a server connection, it keeps the connection open.
        let other_handle = gone.as_fd().try_clone_to_owned().unwrap();
        far.write_all(b"x").unwrap();
        let mut events = Vec::with_capacity(8);
        reactor.wait(&mut events, Some(PATIENCE)).unwrap();
        drop(gone);
        let (next, _far) = pair();
        assert!(next.is_quiet());
        reactor.dispatch(&events, |task| panic!("{task:?} has nothing to do with it"));
        assert!(!next.source.is(READABLE));
        far.write_all(b"y").unwrap();
        reactor.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.len(), 1, "only the one that is there can be written to");
        drop(other_handle);
    });
}

#[test]
fn a_task_that_wakes_itself_does_not_keep_others_from_their_events() {
    run(async |executor| {
        let (mut socket, mut far) = pair();
        let done = Rc::new(Cell::new(false));
        let seen = Rc::clone(&done);
        executor.spawn(std::future::poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            if seen.get() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        later(move || far.write_all(b"x").unwrap());
        executor.spawn(async move {
            socket.read_exact(&mut [0]).await.unwrap();
            done.set(true);
        });
        assert_eq!(executor.next_ended().await, Some(Ok(())));
        assert_eq!(executor.next_ended().await, Some(Ok(())));
    });
}

#[test]
fn a_task_that_could_read_for_ever_lets_others_have_their_turn() {
    run(async |executor| {
        let (mut flooded, mut flood) = pair();
        std::thread::spawn(move || while flood.write_all(&[0; 100_000]).is_ok() {});
        let over = Rc::new(Cell::new(false));
        let seen = Rc::clone(&over);
        executor.spawn(async move {
            while !seen.get() {
                flooded.read_exact(&mut [0]).await.unwrap();
            }
        });
        let (mut other, mut far) = pair();
        later(move || far.write_all(b"x").unwrap());
        executor.spawn(async move {
            other.read_exact(&mut [0]).await.unwrap();
            over.set(true);
        });
        assert_eq!(executor.next_ended().await, Some(Ok(())));
        assert_eq!(executor.next_ended().await, Some(Ok(())));
    });
}

#[test]
fn a_wake_for_a_task_that_has_ended_wakes_its_successor_for_nothing() {
    run(async |executor| {
        let kept = Rc::new(Cell::new(None));
        let keep = Rc::clone(&kept);
        executor.spawn(std::future::poll_fn(move |cx| {
            keep.set(Some(cx.waker().clone()));
            std::task::Poll::Ready(0)
        }));
        assert_eq!(executor.next_ended().await, Some(Ok(0)));
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        executor.spawn(std::future::poll_fn(move |_| {
            counted.set(counted.get() + 1);
            if counted.get() < 2 { std::task::Poll::Pending } else { std::task::Poll::Ready(1) }
        }));
        executor.sleep(Duration::from_millis(5)).await;
        assert_eq!(polls.get(), 1);
        kept.take().unwrap().wake();
        assert_eq!(executor.next_ended().await, Some(Ok(1)));
    });
}

#[test]
fn a_socket_that_another_thread_drops_is_watched_no_more() {
    run::<(), _>(async |_| {
        let reactor = current_reactor().unwrap();
        let (socket, _far) = pair();
        assert_eq!(reactor.registrations.lock().sockets.len(), 1);
        let looked = std::thread::spawn(move || socket.is_quiet());
        assert!(looked.join().unwrap(), "whichever thread looks");
        assert!(reactor.registrations.lock().sockets.is_empty());
    });
}

#[test]
fn a_panic_ends_its_own_task_only() {
    run(async |executor| {
        let (awaited, come) = oneshot::channel();
        executor.spawn(async { panic!("on purpose") });
        executor.spawn(async move { come.await.unwrap() });
        assert_eq!(executor.next_ended().await, Some(Err(Panicked)));
        later(move || awaited.send(7).unwrap());
        assert_eq!(executor.next_ended().await, Some(Ok(7)));
        assert_eq!(executor.len(), 0);
    });
}

#[test]
fn a_task_that_wakes_itself_lets_others_have_their_turn() {
    run(async |executor| {
        let turns = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let turns = Rc::clone(&turns);
            executor.spawn(async move {
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
            assert_eq!(executor.next_ended().await, Some(Ok(())));
        }
    });
}

#[test]
fn wakes_from_other_threads_are_not_lost() {
    run(async |executor| {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        executor.spawn(async move {
            let mut count = 0;
            while receiver.recv().await.is_some() {
                count += 1;
            }
            count
        });
        std::thread::spawn(move || (0..100_000).for_each(|number| sender.blocking_send(number).unwrap()));
        assert_eq!(executor.next_ended().await, Some(Ok(100_000)));
    });
}

#[test]
fn all_are_woken_and_a_sleep_takes_its_time() {
    run(async |executor| {
        let over = Rc::new(Cell::new(false));
        for _ in 0..10 {
            let over = Rc::clone(&over);
            executor.spawn(std::future::poll_fn(move |_| {
                if over.get() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            }));
        }
        let begun = Instant::now();
        executor.sleep(Duration::from_millis(20)).await;
        assert!((Duration::from_millis(20)..PATIENCE).contains(&begun.elapsed()));
        assert_eq!(executor.len(), 10);
        over.set(true);
        executor.wake_all();
        for _ in 0..10 {
            assert_eq!(executor.next_ended().await, Some(Ok(())));
        }
    });
}
