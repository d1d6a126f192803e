import { useMemo, useState } from "react";
import type { Activity as Said, ServerSession } from "../api/reports";
import { duration } from "../state/format";
import { useManager, useWhyNot } from "../state/manager";
import { useResource } from "../state/resource";
import { Button, SearchBox, Segmented } from "../ui/controls";
import { Badge, Empty, Facts, Loaded, PageHead, Panel, type Tone } from "../ui/parts";
import { ServerSelect, Unanswered } from "../ui/servers";
import { type Column, Table, matching } from "../ui/Table";
import { Cut, Moment, Sql, Text } from "../ui/Text";

type Listed = ServerSession & { on: string; node: number };

const tones: Record<string, Tone> = { active: "accent", "idle in transaction": "warning", "idle in transaction (aborted)": "error" };

const columns: Column<Listed>[] = [
  { key: "pid", title: "Process", width: 76, sort: (r) => r.pid, show: (r) => r.pid },
  { key: "on", title: "Server", width: 84, sort: (r) => r.on, show: (r) => <Cut>{r.on}</Cut> },
  { key: "state", title: "State", about: "And what it waits for", width: 164, sort: (r) => r.state, show: (r) => <State row={r} /> },
  { key: "xact", title: "Transaction", width: 100, number: true, sort: (r) => r.xact_seconds, show: (r) => <Seconds value={r.xact_seconds} /> },
  { key: "query_time", title: "Query", width: 76, number: true, sort: (r) => (r.state === "active" ? r.query_seconds : null), show: (r) => <Seconds value={r.state === "active" ? r.query_seconds : null} /> },
  { key: "query", title: "Statement", show: (r) => <Sql>{r.query}</Sql> },
  { key: "user", title: "User", about: "And application", width: 130, sort: (r) => r.user, show: (r) => <User row={r} /> },
  { key: "act", title: "", width: 88, show: (r) => <Acts row={r} /> },
];

type Which = "busy" | "waiting" | "all";

export function Activity() {
  const [node, setNode] = useState("");
  const [search, setSearch] = useState("");
  const [which, setWhich] = useState<Which>("busy");
  const said = useResource<Said>("activity", 2);
  return (
    <>
      <PageHead title="Activity" about="What the servers do right now: pg_stat_activity of all of them." />
      <Loaded of={said}>
        {(data) => (
          <>
            <Unanswered nodes={data.nodes} />
            <Panel flush>
              <div className="toolbar">
                <SearchBox label="Search sessions" value={search} onChange={setSearch} />
                <ServerSelect value={node} servers={data.nodes.map((n) => ({ id: n.node, name: n.name }))} onChange={setNode} />
                <Segmented label="Which" value={which} options={[["busy", "At work"], ["waiting", "Waiting"], ["all", "All"]]} onChange={setWhich} />
              </div>
              <List data={data} node={node} which={which} search={search} />
            </Panel>
          </>
        )}
      </Loaded>
    </>
  );
}

function List({ data, node, which, search }: { data: Said; node: string; which: Which; search: string }) {
  const all = useMemo(() => data.nodes.flatMap((n) => n.sessions.map((s) => ({ ...s, on: n.name, node: n.node }))), [data]);
  const rows = all.filter((r) => (node === "" || String(r.node) === node) && (which === "all" || (which === "busy" ? r.state !== null && r.state !== "idle" : r.blocked_by.length > 0)));
  const none = { busy: "Nobody is at work.", waiting: "Nobody waits for a lock.", all: "There is no session." }[which];
  return (
    <Table
      label="Sessions"
      columns={columns}
      rows={matching(rows, search, (r) => [r.pid, r.on, r.state, r.user, r.database, r.application_name, r.client_addr, r.query, r.wait])}
      id={(r) => `${r.node} ${r.pid}`}
      first={{ by: "xact", down: true }}
      empty={<Empty icon={search ? "search" : "ok"} title={search ? "Nothing matches." : none} />}
      detail={(r) => <Detail row={r} />}
    />
  );
}

function Detail({ row }: { row: Listed }) {
  return (
    <>
      {row.query && <pre className="sql"><Text layout>{row.query}</Text></pre>}
      <Facts
        rows={[
          ["Application", <Text key="n">{row.application_name}</Text>],
          ["Database", <Text key="d">{row.database}</Text>],
          ["Address", <Text key="a">{row.client_addr}</Text>],
          ["Connected", <Moment key="b" at={row.backend_start} />],
          ["Transaction began", <Moment key="x" at={row.xact_start} />],
          ["Client of pgherd", row.client ?? "–"],
        ]}
      />
    </>
  );
}

function Seconds({ value }: { value: number | null }) {
  if (value === null) return <span className="none">–</span>;
  return <span className={`number ${value >= 60 ? "warn-text" : ""}`} title={`${value} s`}>{duration(value)}</span>;
}

function State({ row }: { row: Listed }) {
  const [first, ...others] = row.blocked_by;
  return (
    <>
      <Badge tone={tones[row.state ?? ""] ?? "plain"}><Cut>{row.state}</Cut></Badge>
      {first !== undefined ? (
        <span className="second error-text" title={`Blocked by ${row.blocked_by.join(", ")}`}>
          blocked by {first}
          {others.length > 0 && ` and ${others.length} more`}
        </span>
      ) : (
        row.wait && row.state !== "idle" && <Cut className="second faint">{row.wait}</Cut>
      )}
    </>
  );
}

function User({ row }: { row: Listed }) {
  return (
    <>
      <Cut>{row.user}</Cut>
      {row.application_name && <Cut className="second faint">{row.application_name}</Cut>}
    </>
  );
}

function Acts({ row }: { row: Listed }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const give = (action: string) => manager.ask({ action, node: row.node, pid: row.pid });
  return (
    <span className="row-acts">
      <Button small kind="quiet" icon="stop" aria-label={`Cancel the query of ${row.pid}`} title="Cancel the query" whyNot={whyNot ?? (row.state === "active" ? null : "It runs no query")} onClick={() => give("cancel")} />
      <Button small kind="quiet" icon="close" aria-label={`Terminate ${row.pid}`} title="Terminate the session" whyNot={whyNot} onClick={() => give("terminate")} />
    </span>
  );
}
