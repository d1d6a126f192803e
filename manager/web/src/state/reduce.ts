import type { Failover, Herd, HerdEvent, LiveMessage, Order, Point } from "../api/types";
import { share } from "./share";

/** What the page knows of the herd by being told. */
export interface Known {
  herd: Herd | null;
  events: HerdEvent[] | null;
  failovers: Failover[] | null;
  points: Point[];
  orders: Order[];
  /** When the last message came, in milliseconds of this browser's clock. */
  heard: number | null;
}

export const nothingKnown: Known = { herd: null, events: null, failovers: null, points: [], orders: [], heard: null };

const hour = 3_600_000;
const ordersKept = 100;

export function reduce(known: Known, message: LiveMessage, now: number): Known {
  const next = { ...known, heard: now };
  if (message.herd) next.herd = share(known.herd, message.herd);
  if (message.events) next.events = share(known.events, message.events);
  if (message.failovers) next.failovers = share(known.failovers, message.failovers);
  if (message.point) next.points = withPoint(known.points, message.point);
  if (message.order) next.orders = withOrder(known.orders, message.order);
  return next;
}

/** The server's hour, with those points behind it that were pushed while it was fetched. */
export function withHistory(points: Point[], history: Point[]): Point[] {
  const last = history.at(-1)?.at ?? "";
  return points.filter((point) => point.at > last).reduce(withPoint, history);
}

function withPoint(points: Point[], point: Point): Point[] {
  const last = points.at(-1);
  if (last && last.at >= point.at) return points;
  const oldest = Date.parse(point.at) - hour;
  const from = points.findIndex((old) => Date.parse(old.at) >= oldest);
  return [...(from < 0 ? [] : points.slice(from)), point];
}

export function withOrder(orders: Order[], order: Order): Order[] {
  const at = orders.findIndex((old) => old.id === order.id);
  if (at < 0) return [order, ...orders].sort((a, b) => b.id - a.id).slice(0, ordersKept);
  const old = orders[at] as Order;
  // An answer that was overtaken by a pushed message must not take lines or the outcome back.
  if (old.state !== "running" && order.state === "running") return orders;
  if (old.lines.length > order.lines.length) return orders;
  const kept = share(old, order);
  return kept === old ? orders : orders.with(at, kept);
}
