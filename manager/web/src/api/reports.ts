// What single views of the API say of the servers, each when it is asked.

export type Cell = string | number | boolean | null;
export type Row = Record<string, Cell>;

interface OfNode {
  node: number;
  name: string;
  error: string | null;
}

export interface Sender {
  pid: number;
  application_name: string;
  client_addr: string | null;
  state: string;
  sync_state: string | null;
  sent_lsn: string | null;
  write_lsn: string | null;
  flush_lsn: string | null;
  replay_lsn: string | null;
  lag_bytes: number | null;
  write_lag_ms: number | null;
  flush_lag_ms: number | null;
  replay_lag_ms: number | null;
  node: number | null;
}

export interface Receiver {
  status: string;
  sender_host: string | null;
  sender_port: number | null;
  received_lsn: string | null;
  latest_end_lsn: string | null;
  last_message_ms: number | null;
  slot_name: string | null;
  timeline: number | null;
}

export interface Slot {
  name: string;
  type: string;
  database: string | null;
  active: boolean;
  restart_lsn: string | null;
  retained_bytes: number | null;
  wal_status: string | null;
}

export interface Replication {
  primary: number | null;
  nodes: (OfNode & { senders: Sender[]; receiver: Receiver | null; slots: Slot[] })[];
}

export interface ServerSession {
  pid: number;
  database: string | null;
  user: string | null;
  application_name: string | null;
  client_addr: string | null;
  state: string | null;
  wait: string | null;
  backend_start: string | null;
  xact_start: string | null;
  query_start: string | null;
  xact_seconds: number | null;
  query_seconds: number | null;
  query: string | null;
  blocked_by: number[];
  client: number | null;
}

export interface Activity {
  nodes: (OfNode & { sessions: ServerSession[] })[];
}

export interface Statement {
  query: string;
  database: string | null;
  user: string | null;
  calls: number;
  total_ms: number;
  mean_ms: number;
  max_ms: number;
  rows: number;
  hit_ratio: number | null;
}

export interface Statements {
  source: string;
  nodes: (OfNode & { statements: Statement[] })[];
}

export interface Repmgr {
  error: string | null;
  nodes: {
    node_id: number;
    node_name: string;
    type: string;
    upstream_node_id: number | null;
    active: boolean;
    location: string | null;
    priority: number;
    conninfo: string;
    slot_name: string | null;
    config_file: string | null;
  }[];
  events: { node_id: number; event: string; successful: boolean; at: string; details: string | null }[];
}

/** Of each list: why there is none, if that is known. */
export interface NodeChecks extends OfNode {
  programs_error?: string | null;
  disks_error?: string | null;
  repmgr_error?: string | null;
  programs: { name: string; state: string; detail: string | null }[];
  disks: {
    path: string;
    what: "data" | "archive" | "backup";
    size: number;
    used: number;
    percent: number;
    level: "ok" | "warning" | "critical";
  }[];
  repmgr: { check: string; ok: boolean; detail: string | null }[];
}

export interface Checks {
  nodes: NodeChecks[];
}

export interface Backup {
  name: string;
  kind: "base" | "dump";
  database: string | null;
  at: string;
  size: string;
}

export interface Backups {
  nodes: (OfNode & { backups: Backup[] })[];
}

export interface Swarm {
  available: boolean;
  why_not: string | null;
  services: { name: string; image: string; mode: string; running: number; wanted: number; updated: string | null }[];
  nodes: {
    hostname: string;
    role: string;
    availability: string;
    state: string;
    leader: boolean;
    engine: string | null;
  }[];
  tasks: {
    service: string;
    slot: number | null;
    node: string | null;
    state: string;
    wanted: string;
    error: string | null;
    since: string | null;
  }[];
}

export interface Setting {
  key: string;
  value: Cell;
  default: Cell;
  source: string;
  restart: boolean;
}
