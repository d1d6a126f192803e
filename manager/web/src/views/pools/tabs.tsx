import type { Row } from "../../api/reports";
import { Badge, type Tone } from "../../ui/parts";
import type { Column } from "../../ui/Table";
import { Count, Cut, Millis } from "../../ui/Text";
import { ClientActions, DatabaseActions } from "./RowActions";

export interface Tab {
  path: string;
  title: string;
  view: string;
  about: string;
  none: string;
  columns: Column<Row>[];
  id(row: Row): string;
  first?: { by: string; down: boolean };
}

const text = (value: Row[string] | undefined): string | null => (value == null ? null : String(value));
const number = (value: Row[string] | undefined): number | null => (value == null || value === "" || Number.isNaN(Number(value)) ? null : Number(value));

function words(key: string, title: string, width?: number, mono = false): Column<Row> {
  return { key, title, ...(width ? { width } : {}), sort: (r) => text(r[key]) ?? "", show: (r) => <Cut className={mono ? "mono" : ""}>{text(r[key])}</Cut> };
}

function figure(key: string, title: string, width = 92, about?: string): Column<Row> {
  return { key, title, width, number: true, ...(about ? { about } : {}), sort: (r) => number(r[key]), show: (r) => <Count value={number(r[key])} /> };
}

const stateTones: Record<string, Tone> = { active: "accent", waiting: "warning", being_canceled: "warning" };
const state: Column<Row> = {
  key: "state",
  title: "State",
  width: 112,
  sort: (r) => text(r.state) ?? "",
  show: (r) => <Badge tone={stateTones[text(r.state) ?? ""] ?? "plain"}>{text(r.state)}</Badge>,
};

const waitMillis = (r: Row) => (number(r.wait) ?? number(r.maxwait) ?? 0) * 1000 + (number(r.wait_us) ?? number(r.maxwait_us) ?? 0) / 1000;
const wait = (title: string): Column<Row> => ({ key: "wait", title, width: 100, number: true, sort: waitMillis, show: (r) => (waitMillis(r) > 0 ? <Millis value={waitMillis(r)} /> : <span className="none">–</span>) });

const id: Column<Row> = { key: "id", title: "Id", width: 68, sort: (r) => number(r.id), show: (r) => <span className="number">{String(r.id)}</span> };

const address: Column<Row> = { key: "addr", title: "Address", width: 160, sort: (r) => text(r.addr) ?? "", show: (r) => <Cut className="mono">{r.addr == null ? null : `${r.addr}:${r.port ?? ""}`}</Cut> };

const yes = (key: string, title: string, tone: Tone): Column<Row> => ({
  key,
  title,
  width: 92,
  sort: (r) => Number(r[key] ?? 0),
  show: (r) => (Number(r[key] === true ? 1 : r[key] ?? 0) ? <Badge tone={tone}>{title.toLowerCase()}</Badge> : <span className="none">–</span>),
});

export const tabs: Tab[] = [
  {
    path: "pools",
    title: "Pools",
    view: "pools",
    about: "One for each database and user, whatever server the connections are on.",
    none: "Nobody has connected yet.",
    id: (r) => `${r.database} ${r.user}`,
    columns: [
      words("database", "Database"), words("user", "User"), figure("cl_active", "Clients", 84, "Clients that do not wait"), figure("cl_waiting", "Waiting", 84),
      wait("Longest wait"), figure("sv_active", "Active", 84, "Server connections that are lent"), figure("sv_idle", "Idle", 72, "Idle server connections"), figure("sv_login", "Opening", 88, "Server connections that are being opened"),
      words("pool_mode", "Mode", 112), words("pinned", "Pinned", 150),
    ],
    first: { by: "cl_active", down: true },
  },
  {
    path: "clients",
    title: "Clients",
    view: "clients",
    about: "Sessions of applications.",
    none: "No client is connected.",
    id: (r) => String(r.id ?? r.ptr),
    columns: [
      id, state, words("user", "User"), words("database", "Database"), words("application_name", "Application"), address, wait("Waits for"),
      words("pinned", "Pinned", 100), { key: "act", title: "", width: 60, show: (r) => <ClientActions row={r} /> },
    ],
    first: { by: "id", down: false },
  },
  {
    path: "servers",
    title: "Server connections",
    view: "servers",
    about: "Connections to the servers, lent or idle.",
    none: "There is no server connection.",
    id: (r) => String(r.ptr ?? `${r.addr} ${r.port} ${r.remote_pid}`),
    columns: [words("remote_pid", "Process", 92), state, words("user", "User"), words("database", "Database"), address, words("application_name", "Lent to"), figure("prepared_statements", "Prepared", 92), yes("close_needed", "Closing", "warning")],
    first: { by: "state", down: false },
  },
  {
    path: "pins",
    title: "Pinned sessions",
    view: "pins",
    about: "Sessions that keep their server connection beyond a transaction, and why.",
    none: "No session is pinned: all server connections can be shared.",
    id: (r) => String(r.id),
    columns: [id, words("reason", "Reason", 150), words("user", "User"), words("database", "Database"), words("application_name", "Application"), words("server", "Server", 150, true), figure("server_pid", "Process", 88), { key: "act", title: "", width: 60, show: (r) => <ClientActions row={r} /> }],
  },
  {
    path: "routing",
    title: "Routing",
    view: "routing",
    about: "How many queries ran where since pgherd began, and why.",
    none: "No query yet.",
    id: (r) => `${r.database} ${r.user} ${r.runs_on} ${r.reason}`,
    columns: [words("database", "Database", 130), words("user", "User", 130), { ...words("runs_on", "Runs on", 100), show: (r) => <Badge tone={r.runs_on === "standby" ? "ok" : "plain"}>{text(r.runs_on)}</Badge> }, words("reason", "Reason", 120, true), figure("queries", "Queries", 104), words("why", "Why")],
    first: { by: "queries", down: true },
  },
  {
    path: "databases",
    title: "Databases",
    view: "databases",
    about: "Those that clients have used, that have settings of their own, or that are paused or disabled.",
    none: "No database has been used yet.",
    id: (r) => String(r.name),
    columns: [words("name", "Database"), words("pool_mode", "Mode", 100), figure("pool_size", "Pool size", 92), figure("current_connections", "Servers", 84, "Server connections"), figure("current_client_connections", "Clients", 84), yes("paused", "Paused", "warning"), yes("disabled", "Disabled", "error"), { key: "act", title: "", width: 60, show: (r) => <DatabaseActions row={r} /> }],
    first: { by: "name", down: false },
  },
  {
    path: "prepared",
    title: "Prepared",
    view: "prepared",
    about: "Prepared statements that sessions may share.",
    none: "No statement is prepared.",
    id: (r) => String(r.name),
    columns: [words("name", "Name", 140, true), figure("sessions", "Sessions", 96), words("statement", "Statement", undefined, true)],
    first: { by: "sessions", down: true },
  },
];
