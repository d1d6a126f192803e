import type { OrderRequest } from "../api/client";
import { visible } from "../state/visible";

export interface FieldSpec {
  name: string;
  label: string;
  hint?: string;
  kind: "node" | "text" | "number" | "check" | "kind";
  required?: boolean;
}

export interface ActionSpec {
  /** What the dialog's head and its button say. `on` is what it is done to, in words. */
  does(on: string): string;
  /** What it means, for whoever does it for the first time at 3 a.m. */
  about: string;
  fields?: FieldSpec[];
  danger?: boolean;
}

const allowLoss: FieldSpec = {
  name: "allow_data_loss",
  label: "Allow data loss",
  hint: "What only the other server has is given up.",
  kind: "check",
};

export const catalogue: Record<string, ActionSpec> = {
  switchover: {
    does: (on) => `Switch over to ${on || "the best standby"}`,
    about: "The primary is stopped cleanly, the standby is promoted, and the old primary follows it. Transactions wait for about a third of a second; no client loses its connection.",
    fields: [{ name: "node", label: "New primary", hint: "Left open, it is the standby that has most.", kind: "node" }],
  },
  failover: {
    does: (on) => `Fail over to ${on || "the best standby"}`,
    about: "Has a standby promoted where there is no primary. Where the primary works, a switchover loses nothing.",
    fields: [
      { name: "node", label: "Standby", hint: "Left open, it is the one that has most.", kind: "node" },
      { ...allowLoss, hint: "Promotes also where acknowledged commits may be missing." },
      { name: "accept_timeline", label: "Accept timeline", hint: "Where servers have forked: the timeline that is right.", kind: "number" },
    ],
    danger: true,
  },
  promote: { does: (on) => `Promote ${on}`, about: "Makes this standby the primary where there is none.", danger: true },
  follow: { does: (on) => `Have ${on} follow the primary`, about: "Points the standby to the present primary, and waits until it streams." },
  rejoin: {
    does: (on) => `Rejoin ${on}`,
    about: "The server is stopped, rewound and started as a standby of the primary.",
    fields: [{ ...allowLoss, hint: "What the server has written on its own, and nobody else has, is given up." }],
  },
  reclone: { does: (on) => `Clone ${on} anew`, about: "Empties the server and clones it from the primary.", danger: true },
  attach: { does: (on) => `Attach ${on}`, about: "The server is read again, and may be promoted." },
  detach: { does: (on) => `Detach ${on}`, about: "The server is neither read nor promoted until it is attached. It goes on to replicate." },
  stop: { does: (on) => `Stop ${on}`, about: "Stops PostgreSQL on this server.", danger: true },
  start: { does: (on) => `Start ${on}`, about: "Starts PostgreSQL on this server." },
  unregister: { does: (on) => `Unregister ${on}`, about: "Takes the server out of repmgr's table of nodes. Nothing is done to the server itself.", danger: true },
  pause_failover: { does: () => "Pause failover", about: "Nobody is promoted and nothing is repaired until failover is resumed. Clients are served as before." },
  resume_failover: { does: () => "Resume failover", about: "pgherd decides and repairs by itself again." },
  reload: { does: () => "Reload the configuration", about: "Reads the configuration again. What was set here until then is gone." },
  pause: { does: (on) => `Pause ${on || "all databases"}`, about: "No more server connections are lent. Clients stay connected, and what they ask for waits." },
  resume: { does: (on) => `Resume ${on || "all databases"}`, about: "Server connections are lent again." },
  reconnect: { does: (on) => `Reconnect ${on || "all databases"}`, about: "Server connections that are open now are closed as soon as they come back." },
  disable: { does: (on) => `Disable ${on}`, about: "No more clients are let in. Those that are there go on." },
  enable: { does: (on) => `Enable ${on}`, about: "Clients are let in again." },
  kill_client: { does: (on) => `End ${on}`, about: "The session ends with 57P01, and what it runs is cancelled.", danger: true },
  cancel: { does: (on) => `Cancel the query of ${on}`, about: "The statement that runs now is cancelled. The session goes on." },
  terminate: { does: (on) => `Terminate ${on}`, about: "The server's process ends, and the transaction that is open is rolled back.", danger: true },
  backup: {
    does: (on) => `Take a backup of ${on}`,
    about: "A base backup is all of the server, for pg_basebackup's way of restoring; a dump is one database.",
    fields: [
      { name: "kind", label: "Kind", kind: "kind", required: true },
      { name: "database", label: "Database", hint: "Of a dump.", kind: "text" },
    ],
  },
  backup_delete: { does: (on) => `Delete ${on}`, about: "The backup is gone for good.", danger: true },
  backup_restore: {
    does: (on) => `Restore ${on}`,
    about: "The dump is restored into a database that is not there yet.",
    fields: [{ name: "database", label: "New database", hint: "It must not exist.", kind: "text", required: true }],
  },
  set: {
    does: (on) => `Set ${on}`,
    about: "In force at once, until the next reload or restart: the file is not changed.",
    fields: [{ name: "value", label: "Value", hint: "As in the configuration file. DEFAULT takes it back.", kind: "text", required: true }],
  },
};

/** What is done to, in words. `nameOf` gives a server's name. */
export function target(order: OrderRequest, nameOf: (node: number) => string): string {
  const node = typeof order.node === "number" ? nameOf(order.node) : "";
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? visible(value) : "");
  switch (order.action) {
    case "cancel":
    case "terminate":
      return `process ${String(order.pid)} on ${node}`;
    case "kill_client":
      return `client ${String(order.id)}`;
    case "backup_delete":
    case "backup_restore":
      return text(order.name);
    case "set":
      return text(order.key);
    case "pause":
    case "resume":
    case "reconnect":
    case "disable":
    case "enable":
      return text(order.database);
    default:
      return node;
  }
}

/** As it is sent: a setting that is taken back has no value. */
export function sent(order: OrderRequest): OrderRequest {
  const takesBack = order.action === "set" && typeof order.value === "string" && order.value.trim().toUpperCase() === "DEFAULT";
  return takesBack ? { ...order, value: null } : order;
}

/** Whether all is there that the order needs. */
export function complete(order: OrderRequest): boolean {
  const fields = catalogue[order.action]?.fields ?? [];
  if (order.action === "backup" && order.kind === "dump" && !order.database) return false;
  return fields.every((field) => !field.required || (order[field.name] !== undefined && order[field.name] !== ""));
}
