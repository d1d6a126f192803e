//! What was ordered here, and what became of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::feed::show_time;
use crate::model::{Action, Event, Line, Order, OrderState};
use crate::{Manager, Source, servers as queries};

/// Orders that are remembered.
const KEPT: usize = 100;
/// Orders under way at a time.
const RUNNING: usize = 20;
/// Lines that are kept of an order; the first and the last.
const LINES: usize = 1000;
/// Longest line, and longest result, in characters.
const LINE: usize = 2000;
/// Lines that may wait to be noted.
const QUEUE: usize = 64;
/// What is shown in place of a setting's value.
const HIDDEN: &str = "***";

/// All orders that are remembered.
#[derive(Debug)]
pub(crate) struct Orders {
    book: Mutex<Book>,
    /// Grows with each change.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Book {
    last: u64,
    /// The oldest first, each with the change that it was changed by last.
    orders: VecDeque<(u64, Arc<Order>)>,
    changes: u64,
}

impl Default for Orders {
    fn default() -> Self {
        Self { book: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Orders {
    /// All, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Order>> {
        self.book.lock().orders.iter().rev().map(|(_, order)| Arc::clone(order)).collect()
    }

    /// One.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Order>> {
        let book = self.book.lock();
        book.orders.iter().find(|(_, order)| order.id == id).map(|(_, order)| Arc::clone(order))
    }

    /// Those that have changed since, and up to which change that is.
    pub(crate) fn since(&self, change: u64) -> (u64, Vec<Arc<Order>>) {
        let book = self.book.lock();
        let changed = book.orders.iter().filter(|(at, _)| *at > change);
        (book.changes, changed.map(|(_, order)| Arc::clone(order)).collect())
    }

    /// Tells of changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// As events: what was ordered, and how it ended.
    pub(crate) fn events(&self, name: impl Fn(u32) -> Option<String>) -> Vec<Event> {
        let event = |order: Arc<Order>| {
            let told = match (order.state, &order.result) {
                (OrderState::Running, _) => "under way".to_owned(),
                (_, result) => result.clone().unwrap_or_default(),
            };
            Event {
                at: order.at.clone(),
                event: format!("operator_{}", order.action),
                node: order.node,
                name: order.node.and_then(&name),
                successful: order.state != OrderState::Failed,
                details: told,
                by: Some(order.by.clone()),
            }
        };
        self.all().into_iter().map(event).collect()
    }

    fn begin(&self, action: &Action, by: &str) -> Option<Arc<Order>> {
        let mut book = self.book.lock();
        let is_running = |(_, order): &&(u64, Arc<Order>)| order.state == OrderState::Running;
        if book.orders.iter().filter(is_running).count() >= RUNNING {
            return None;
        }
        book.last += 1;
        let order = Arc::new(Order {
            id: book.last,
            action: action.name(),
            request: shown(action),
            node: action.node(),
            by: by.to_owned(),
            at: show_time(SystemTime::now()),
            state: OrderState::Running,
            result: None,
            lines: Vec::new(),
        });
        while book.orders.len() >= KEPT
            && let Some(ended) = book.orders.iter().position(|(_, it)| it.state != OrderState::Running)
        {
            book.orders.remove(ended);
        }
        book.changes += 1;
        let change = book.changes;
        book.orders.push_back((change, Arc::clone(&order)));
        drop(book);
        self.changes.send_replace(change);
        Some(order)
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Order)) {
        let mut book = self.book.lock();
        book.changes += 1;
        let number = book.changes;
        if let Some((at, order)) = book.orders.iter_mut().find(|(_, order)| order.id == id) {
            *at = number;
            change(Arc::make_mut(order));
        }
        drop(book);
        self.changes.send_replace(number);
    }

    fn note(&self, id: u64, text: &str) {
        let text: String = text.chars().take(LINE).collect();
        let line = Line { at: show_time(SystemTime::now()), text };
        self.change(id, |order| {
            if order.lines.len() >= LINES {
                // The beginning says what was done, the end how it went.
                order.lines.remove(LINES / 2);
            }
            order.lines.push(line);
        });
    }
}

/// Takes an order: it is carried out whether or not somebody waits for it. None if too many are under way.
pub(crate) fn give<S: Source>(manager: &Arc<Manager<S>>, action: Action, by: &str) -> Option<Arc<Order>> {
    let order = manager.orders.begin(&action, by)?;
    tracing::info!(user = by, order = order.id, action = ?order.request, "an order at the manager");
    let manager = Arc::clone(manager);
    let id = order.id;
    let carried_out = tokio::spawn({
        let manager = Arc::clone(&manager);
        async move {
            let (lines, mut told) = mpsc::channel(QUEUE);
            let performed = manager.perform(&action, lines);
            let noted = async {
                while let Some(line) = told.recv().await {
                    manager.orders.note(id, &line);
                }
            };
            tokio::join!(performed, noted).0
        }
    });
    tokio::spawn(async move {
        let ended = carried_out.await;
        let result = ended.unwrap_or_else(|error| Err(format!("a defect of pgherd has ended it: {error}")));
        let state = if result.is_ok() { OrderState::Done } else { OrderState::Failed };
        let told: String = result.unwrap_or_else(|why| why).chars().take(LINE).collect();
        tracing::info!(order = id, ?state, told, "the order has ended");
        manager.orders.change(id, |order| (order.state, order.result) = (state, Some(told)));
    });
    Some(order)
}

impl<S: Source> Manager<S> {
    async fn perform(&self, action: &Action, lines: mpsc::Sender<String>) -> Result<String, String> {
        let (node, query, pid, done) = match *action {
            Action::Cancel { node, pid } => (node, queries::CANCEL, pid, "was told to cancel what it does"),
            Action::Terminate { node, pid } => (node, queries::TERMINATE, pid, "was told to end"),
            _ => return self.source.perform(action, lines).await,
        };
        match self.source.ask(node, query, &[pid]).await?.as_str() {
            "true" => Ok(format!("process {pid} {done}")),
            _ => Err(format!("there is no process {pid} any more")),
        }
    }
}

/// An action as the log has it, and whoever may look: of a setting not its value, which may be a password.
fn shown(action: &Action) -> Action {
    match action {
        Action::Set { key, value: Some(_) } => {
            Action::Set { key: key.clone(), value: Some(HIDDEN.to_owned()) }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reload() -> Action {
        Action::Reload {}
    }

    #[test]
    fn whoever_looks_again_sees_what_has_changed_since() {
        let orders = Orders::default();
        let first = orders.begin(&reload(), "ann").unwrap().id;
        let second = orders.begin(&reload(), "bob").unwrap().id;
        let (seen, changed) = orders.since(0);
        assert_eq!(changed.iter().map(|it| it.id).collect::<Vec<_>>(), [first, second]);
        orders.note(first, "one");
        let (seen, changed) = orders.since(seen);
        assert_eq!(changed.iter().map(|it| (it.id, it.lines.len())).collect::<Vec<_>>(), [(first, 1)]);
        assert!(orders.since(seen).1.is_empty());
    }

    #[test]
    fn orders_and_their_lines_are_bounded_and_none_under_way_is_forgotten() {
        let orders = Orders::default();
        let stays = orders.begin(&reload(), "ann").unwrap().id;
        for _ in 0..2 * KEPT {
            let id = orders.begin(&reload(), "ann").unwrap().id;
            orders.change(id, |order| order.state = OrderState::Done);
        }
        assert_eq!(orders.all().len(), KEPT);
        for number in 0..=LINES {
            orders.note(stays, &format!("{number}{}", "x".repeat(2 * LINE)));
        }
        let order = orders.find(stays).unwrap();
        assert_eq!(order.lines.len(), LINES);
        assert!(order.lines.iter().all(|line| line.text.len() == LINE));
        assert!(order.lines[0].text.starts_with("0x") && order.lines[LINES - 1].text.starts_with("1000x"));
        let begun: Vec<_> = (0..2 * RUNNING).filter_map(|_| orders.begin(&reload(), "ann")).collect();
        assert_eq!(begun.len(), RUNNING - 1);
    }

    #[test]
    fn an_order_has_no_value_of_a_setting() {
        let action = Action::Set { key: "monitor.password".into(), value: Some("secret".into()) };
        let order = Orders::default().begin(&action, "ann").unwrap();
        let hidden = Action::Set { key: "monitor.password".into(), value: Some(HIDDEN.into()) };
        assert_eq!(order.request, hidden);
    }
}
