import { useMemo } from "react";
import type { Backup, Backups as Said } from "../api/reports";
import { useManager, useWhyNot } from "../state/manager";
import { useReloadAfter, useResource } from "../state/resource";
import { visible } from "../state/visible";
import { Button } from "../ui/controls";
import { Badge, Empty, Loaded, Note, PageHead, Panel } from "../ui/parts";
import { type Column, Table } from "../ui/Table";
import { Ago, Cut, Moment, Text } from "../ui/Text";

type Listed = Backup & { node: number };

const columns: Column<Listed>[] = [
  { key: "name", title: "Name", sort: (r) => r.name, show: (r) => <Cut className="mono">{r.name}</Cut> },
  { key: "kind", title: "Kind", width: 80, sort: (r) => r.kind, show: (r) => <Badge tone={r.kind === "base" ? "accent" : "plain"}>{r.kind}</Badge> },
  { key: "database", title: "Database", width: 150, sort: (r) => r.database, show: (r) => <Cut>{r.database}</Cut> },
  { key: "at", title: "Taken", width: 168, sort: (r) => r.at, show: (r) => <Moment at={r.at} /> },
  { key: "age", title: "Age", width: 130, show: (r) => <Ago at={r.at} /> },
  { key: "size", title: "Size", width: 96, number: true, show: (r) => <Text className="number">{r.size}</Text> },
  { key: "act", title: "", width: 92, show: (r) => <Acts row={r} /> },
];

const changing = ["backup", "backup_delete"];

export function Backups() {
  const said = useResource<Said>("backups", 30);
  useReloadAfter(changing, said.reload);
  return (
    <>
      <PageHead title="Backups" about="Base backups and dumps, on the servers where they lie." />
      <Loaded of={said}>
        {(data) => data.nodes.length === 0 ? <Panel><Empty icon="backups" title="No server has a place for backups." /></Panel> : data.nodes.map((node) => <Of key={node.node} node={node} />)}
      </Loaded>
    </>
  );
}

function Of({ node }: { node: Said["nodes"][number] }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const rows = useMemo(() => node.backups.map((b) => ({ ...b, node: node.node })), [node]);
  const take = (kind: "base" | "dump") => manager.ask({ action: "backup", node: node.node, kind });
  return (
    <Panel
      title={<Cut>{node.name}</Cut>}
      flush
      aside={
        <>
          <Button small whyNot={whyNot} onClick={() => take("base")}>Base backup…</Button>
          <Button small whyNot={whyNot} onClick={() => take("dump")}>Dump…</Button>
        </>
      }
    >
      {node.error && <div className="padded"><Note tone="warning"><Text>{node.error}</Text></Note></div>}
      {!(node.error && rows.length === 0) && (
        <Table label={`Backups on ${visible(node.name)}`} columns={columns} rows={rows} id={(r) => r.name} first={{ by: "at", down: true }} empty={<Empty icon="backups" title="No backup has been taken here." />} />
      )}
    </Panel>
  );
}

function Acts({ row }: { row: Listed }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const { node, name } = row;
  return (
    <span className="row-acts">
      <Button small kind="quiet" icon="restore" aria-label={`Restore ${visible(name)}`} title="Restore" whyNot={whyNot ?? (row.kind === "dump" ? null : "A base backup is restored on the server itself")} onClick={() => manager.ask({ action: "backup_restore", node, name })} />
      <Button small kind="quiet" icon="trash" aria-label={`Delete ${visible(name)}`} title="Delete" whyNot={whyNot} onClick={() => manager.ask({ action: "backup_delete", node, name })} />
    </span>
  );
}
