import { useMemo } from "react";
import type { Receiver, Replication as Said, Repmgr, Sender, Slot } from "../api/reports";
import { Plots } from "../charts/panels";
import { useManaged } from "../state/manager";
import { useResource } from "../state/resource";
import { Badge, Empty, Loaded, Note, PageHead, Panel, type Tone } from "../ui/parts";
import { Unanswered } from "../ui/servers";
import { type Column, Table } from "../ui/Table";
import { Bytes, Cut, Millis, Moment, Text } from "../ui/Text";

type Of<T> = T & { on: string };

const streaming = (state: string | null): Tone => (state === "streaming" ? "ok" : "warning");

const senders: Column<Of<Sender>>[] = [
  { key: "on", title: "On", width: 110, sort: (r) => r.on, show: (r) => <Cut>{r.on}</Cut> },
  { key: "application", title: "Sends to", width: 140, sort: (r) => r.application_name, show: (r) => <Cut>{r.application_name}</Cut> },
  { key: "address", title: "Address", width: 120, show: (r) => <Cut className="mono">{r.client_addr}</Cut> },
  { key: "state", title: "State", width: 104, sort: (r) => r.state, show: (r) => <Badge tone={streaming(r.state)}><Text>{r.state}</Text></Badge> },
  { key: "sync", title: "Sync", width: 76, sort: (r) => r.sync_state, show: (r) => <Text>{r.sync_state}</Text> },
  { key: "lag", title: "Lag", width: 84, number: true, sort: (r) => r.lag_bytes, show: (r) => <Bytes value={r.lag_bytes} /> },
  { key: "write", title: "Write", about: "Write lag", width: 84, number: true, sort: (r) => r.write_lag_ms, show: (r) => <Millis value={r.write_lag_ms} /> },
  { key: "flush", title: "Flush", about: "Flush lag", width: 84, number: true, sort: (r) => r.flush_lag_ms, show: (r) => <Millis value={r.flush_lag_ms} /> },
  { key: "replay", title: "Replay", about: "Replay lag", width: 84, number: true, sort: (r) => r.replay_lag_ms, show: (r) => <Millis value={r.replay_lag_ms} /> },
  { key: "sent", title: "Sent", width: 120, show: (r) => <Cut className="mono">{r.sent_lsn}</Cut> },
  { key: "replayed", title: "Replayed", width: 120, show: (r) => <Cut className="mono">{r.replay_lsn}</Cut> },
];

const receivers: Column<Of<Receiver>>[] = [
  { key: "on", title: "On", width: 110, sort: (r) => r.on, show: (r) => <Cut>{r.on}</Cut> },
  { key: "status", title: "Status", width: 104, show: (r) => <Badge tone={streaming(r.status)}><Text>{r.status}</Text></Badge> },
  { key: "from", title: "Receives from", show: (r) => <Cut className="mono">{r.sender_host === null ? null : `${r.sender_host}:${r.sender_port ?? ""}`}</Cut> },
  { key: "slot", title: "Slot", width: 150, show: (r) => <Cut className="mono">{r.slot_name}</Cut> },
  { key: "received", title: "Received", width: 120, show: (r) => <Cut className="mono">{r.received_lsn}</Cut> },
  { key: "end", title: "Sender's end", width: 120, show: (r) => <Cut className="mono">{r.latest_end_lsn}</Cut> },
  { key: "timeline", title: "Timeline", width: 84, number: true, show: (r) => r.timeline ?? "–" },
  { key: "last", title: "Last message", about: "How long ago", width: 120, number: true, show: (r) => <Millis value={r.last_message_ms} /> },
];

const slots: Column<Of<Slot>>[] = [
  { key: "on", title: "On", width: 110, sort: (r) => r.on, show: (r) => <Cut>{r.on}</Cut> },
  { key: "name", title: "Slot", sort: (r) => r.name, show: (r) => <Cut className="mono">{r.name}</Cut> },
  { key: "type", title: "Type", width: 90, show: (r) => <Text>{r.type}</Text> },
  { key: "database", title: "Database", width: 120, show: (r) => <Cut>{r.database}</Cut> },
  { key: "active", title: "Active", width: 90, sort: (r) => r.active, show: (r) => <Badge tone={r.active ? "ok" : "warning"}>{r.active ? "active" : "idle"}</Badge> },
  { key: "retained", title: "Retained", about: "WAL that is kept for it", width: 96, number: true, sort: (r) => r.retained_bytes, show: (r) => <Bytes value={r.retained_bytes} /> },
  { key: "wal", title: "WAL", width: 100, show: (r) => <Text>{r.wal_status}</Text> },
  { key: "restart", title: "Restart", width: 120, show: (r) => <Cut className="mono">{r.restart_lsn}</Cut> },
];

type RepmgrNode = Repmgr["nodes"][number];

const repmgrNodes: Column<RepmgrNode>[] = [
  { key: "id", title: "Id", width: 56, sort: (r) => r.node_id, show: (r) => r.node_id },
  { key: "name", title: "Name", width: 130, sort: (r) => r.node_name, show: (r) => <Cut>{r.node_name}</Cut> },
  { key: "type", title: "Type", width: 96, show: (r) => <Badge tone={r.type === "primary" ? "accent" : "plain"}><Text>{r.type}</Text></Badge> },
  { key: "upstream", title: "Follows", width: 72, show: (r) => r.upstream_node_id ?? "–" },
  { key: "active", title: "Active", width: 80, show: (r) => <Badge tone={r.active ? "ok" : "warning"}>{r.active ? "yes" : "no"}</Badge> },
  { key: "priority", title: "Priority", width: 80, number: true, show: (r) => r.priority },
  { key: "location", title: "Location", width: 100, show: (r) => <Cut>{r.location}</Cut> },
  { key: "conninfo", title: "Connection", show: (r) => <Cut className="mono">{r.conninfo}</Cut> },
];

type RepmgrEvent = Repmgr["events"][number];

const repmgrEvents: Column<RepmgrEvent>[] = [
  { key: "at", title: "Time", width: 168, sort: (r) => r.at, show: (r) => <Moment at={r.at} /> },
  { key: "node", title: "Node", width: 64, show: (r) => r.node_id },
  { key: "event", title: "Event", width: 220, sort: (r) => r.event, show: (r) => <Cut className="mono">{r.event}</Cut> },
  { key: "ok", title: "Outcome", width: 90, show: (r) => <Badge tone={r.successful ? "ok" : "error"}>{r.successful ? "done" : "failed"}</Badge> },
  { key: "details", title: "Details", show: (r) => <Cut>{r.details}</Cut> },
];

export function Replication() {
  const said = useResource<Said>("replication", 2);
  const repmgr = useResource<Repmgr>("repmgr", 10);
  return (
    <>
      <PageHead title="Replication" about="Who sends to whom, how far each is behind, and what is kept for it." />
      <Loaded of={said}>{(data) => <Streams data={data} />}</Loaded>
      <Plots plots={["lag", "lagTime"]} title="Lag, the last hour" />
      <Loaded of={repmgr}>
        {(data) => (
          <>
            {data.error && <Note tone="warning"><Text>{data.error}</Text></Note>}
            <Panel title="repmgr's nodes" flush>
              <Table label="repmgr's nodes" columns={repmgrNodes} rows={data.nodes} id={(r) => String(r.node_id)} empty={<Empty title="repmgr has no nodes." />} />
            </Panel>
            <Panel title="repmgr's events" flush>
              <Table label="repmgr's events" columns={repmgrEvents} rows={data.events} id={(r) => `${r.at} ${r.event} ${r.node_id}`} empty={<Empty title="repmgr has no events." />} />
            </Panel>
          </>
        )}
      </Loaded>
    </>
  );
}

function Streams({ data }: { data: Said }) {
  const count = useManaged((s) => s.known.herd?.nodes.length ?? 0);
  const rows = useMemo(
    () => ({
      senders: data.nodes.flatMap((n) => n.senders.map((r) => ({ ...r, on: n.name }))),
      receivers: data.nodes.flatMap((n) => (n.receiver ? [{ ...n.receiver, on: n.name }] : [])),
      slots: data.nodes.flatMap((n) => n.slots.map((r) => ({ ...r, on: n.name }))),
    }),
    [data],
  );
  return (
    <>
      <Unanswered nodes={data.nodes} />
      <Panel title="Senders" flush>
        <Table label="Senders" columns={senders} rows={rows.senders} id={(r) => `${r.on} ${r.pid}`} empty={<Empty icon={count > 1 ? "warning" : "ok"} title="Nobody streams." />} />
      </Panel>
      <Panel title="Receivers" flush>
        <Table label="Receivers" columns={receivers} rows={rows.receivers} id={(r) => r.on} empty={<Empty title="Nobody receives." />} />
      </Panel>
      <Panel title="Slots" flush>
        <Table label="Slots" columns={slots} rows={rows.slots} id={(r) => `${r.on} ${r.name}`} empty={<Empty title="There are no slots." />} />
      </Panel>
    </>
  );
}
