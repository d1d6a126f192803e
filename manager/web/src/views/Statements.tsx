import { useMemo, useState } from "react";
import type { Statement, Statements as Said } from "../api/reports";
import { useResource } from "../state/resource";
import { SearchBox } from "../ui/controls";
import { Empty, Loaded, PageHead, Panel } from "../ui/parts";
import { ServerSelect, Unanswered } from "../ui/servers";
import { type Column, Table, matching } from "../ui/Table";
import { Bytes, Count, Cut, Millis, Short, Sql, Text } from "../ui/Text";
import { percent } from "../state/format";

type Listed = Statement & { on: string; part: number };

const columns: Column<Listed>[] = [
  { key: "query", title: "Statement", show: (r) => <Sql>{r.query}</Sql> },
  { key: "part", title: "Share", about: "Of the time of all statements here", width: 124, sort: (r) => r.part, show: (r) => <Part value={r.part} /> },
  { key: "total", title: "Total", width: 96, number: true, sort: (r) => r.total_ms, show: (r) => <Millis value={r.total_ms} /> },
  { key: "mean", title: "Mean", width: 76, number: true, sort: (r) => r.mean_ms, show: (r) => <Millis value={r.mean_ms} /> },
  { key: "max", title: "Max", width: 76, number: true, sort: (r) => r.max_ms, show: (r) => <Millis value={r.max_ms} /> },
  { key: "calls", title: "Calls", width: 72, number: true, sort: (r) => r.calls, show: (r) => <Short value={r.calls} /> },
  { key: "rows", title: "Rows", width: 72, number: true, sort: (r) => r.rows, show: (r) => <Short value={r.rows} /> },
  { key: "hit", title: "Hits", about: "Blocks that were found in the cache", width: 72, number: true, sort: (r) => r.hit_ratio, show: (r) => (r.hit_ratio === null ? <span className="none">–</span> : percent(r.hit_ratio * 100)) },
  { key: "on", title: "Server", width: 92, sort: (r) => r.on, show: (r) => <Cut>{r.on}</Cut> },
];

export function Statements() {
  const said = useResource<Said>("statements", 10);
  const [search, setSearch] = useState("");
  const [node, setNode] = useState("");
  return (
    <>
      <PageHead title="Statements" about="What takes the servers' time, as pg_stat_statements has counted it: without literals." />
      <Loaded of={said}>
        {(data) => (
          <>
            <Unanswered nodes={data.nodes} />
            <Panel flush>
              <div className="toolbar">
                <SearchBox label="Search statements" value={search} onChange={setSearch} />
                <ServerSelect value={node} servers={data.nodes.map((n) => ({ id: n.node, name: n.name }))} onChange={setNode} />
              </div>
              <List data={data} node={node} search={search} />
            </Panel>
          </>
        )}
      </Loaded>
    </>
  );
}

function List({ data, node, search }: { data: Said; node: string; search: string }) {
  const rows = useMemo(() => {
    const some = data.nodes.filter((n) => node === "" || String(n.node) === node).flatMap((n) => n.statements.map((s) => ({ ...s, on: n.name })));
    const all = some.reduce((sum, s) => sum + s.total_ms, 0);
    return some.map((s) => ({ ...s, part: all > 0 ? s.total_ms / all : 0 }));
  }, [data, node]);
  return (
    <Table
      label="Statements"
      columns={columns}
      rows={matching(rows, search, (r) => [r.query, r.user, r.database, r.on])}
      id={(r) => `${r.on} ${r.database} ${r.user} ${r.query}`}
      first={{ by: "total", down: true }}
      empty={<Empty icon={search ? "search" : "ok"} title={search ? "Nothing matches." : "No statement has been counted."} />}
      detail={(r) => (
        <>
          <pre className="sql"><Text layout>{r.query}</Text></pre>
          <p className="detail-text faint">
            By <Text>{r.user}</Text> in <Text>{r.database}</Text>.{" "}{r.calls > 0 && <>On average <Count value={r.rows / r.calls} /> rows a call. </>}Text of <Bytes value={new Blob([r.query]).size} />.</p>
        </>
      )}
    />
  );
}

function Part({ value }: { value: number }) {
  return (
    <span className="part" title={percent(value * 100)}>
      <span className="part-bar"><span style={{ width: `${value * 100}%` }} /></span>
      <span className="number">{percent(Math.round(value * 1000) / 10)}</span>
    </span>
  );
}
