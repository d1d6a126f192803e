// What the HTTP API says, as its OpenAPI document describes it.

export type Role = "operator" | "viewer";

export interface Session {
  user: string | null;
  role: Role | null;
  csrf: string | null;
  anonymous: "viewer" | null;
  version: string;
  cluster: string | null;
}

export interface Guard {
  what: string;
  holds: "holds" | "waits" | "fails";
  why: string;
}

export interface Traffic {
  at: string;
  transactions: number;
  queries: number;
  received: number;
  sent: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  wait_p99_ms: number | null;
  clients: number;
  waiting: number;
  active: number;
  idle: number;
}

export interface Point extends Traffic {
  /** By server; one of which it is not known is left out. */
  lag_bytes: Record<string, number | null>;
  lag_seconds: Record<string, number | null>;
}

export interface Machine {
  state: string;
  since: string;
  reason: string;
  advice: string | null;
  mode: "automatic" | "manual";
  decides: boolean;
  decider: string | null;
  paused: boolean;
  epoch: string | null;
  guards: Guard[];
  warnings: string[];
}

export interface HerdNode {
  id: number;
  name: string;
  host: string;
  port: number;
  role: "primary" | "standby" | "unknown";
  state: string;
  up: boolean;
  used_for: "writes" | "reads" | "open transactions" | "no";
  why_not: string | null;
  lsn: string | null;
  lag_bytes: number | null;
  replay_lag_bytes: number | null;
  replay_lag_seconds: number | null;
  timeline: number | null;
  weight: number;
  detached: boolean;
  discovered: boolean;
  since: string | null;
  connections: number;
  lent: number;
  reads_per_second: number | null;
  round_trip_ms: number | null;
  upstream: number | null;
  receiver: string | null;
  sync_state: string | null;
}

export interface Herd {
  at: string;
  version: string;
  uptime_seconds: number;
  cluster: { system_identifier: string | null; timeline: number | null };
  machine: Machine;
  writes: { open: boolean; node: number | null; reason: string | null };
  alert: { level: "error" | "warning"; text: string; advice: string | null } | null;
  nodes: HerdNode[];
  /** Null until it has been counted once. */
  traffic: Traffic | null;
}

export interface HerdEvent {
  at: string;
  event: string;
  node: number | null;
  name: string | null;
  successful: boolean;
  details: string;
  by: string | null;
}

export interface Step {
  state: string;
  began: string;
  seconds: number;
  what: string;
}

export interface Failover {
  id: number | string;
  kind: "failover" | "switchover" | "start";
  began: string;
  ended: string | null;
  outcome: "done" | "under way" | "given up";
  from: number | null;
  to: number | null;
  seconds: number;
  writes_closed_seconds: number | null;
  steps: Step[];
}

export interface History {
  every_seconds: number;
  points: Point[];
}

export interface Order {
  id: number;
  action: string;
  /** What was asked for. */
  request?: { action: string; [field: string]: unknown };
  node: number | null;
  by: string;
  at: string;
  state: "running" | "done" | "failed";
  result: string | null;
  lines: { at: string; text: string }[];
}

export interface DryRun {
  would: string | null;
  refused: string | null;
  guards: Guard[];
  consequences: string[];
  dangerous: boolean;
  /** What has to be typed where it is dangerous. */
  confirm?: string | null;
}

export type LiveMessage = {
  herd?: Herd;
  events?: HerdEvent[];
  failovers?: Failover[];
  point?: Point;
  order?: Order;
};
