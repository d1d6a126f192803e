import { useMemo, useState } from "react";
import type { HerdEvent } from "../../api/types";
import { useManaged } from "../../state/manager";
import { SearchBox, Segmented } from "../../ui/controls";
import { Badge, Empty, PageHead, Panel, Skeleton } from "../../ui/parts";
import { ServerSelect } from "../../ui/servers";
import { type Column, Table, matching } from "../../ui/Table";
import { Cut, Moment, Text } from "../../ui/Text";
import { FailoverList } from "./FailoverList";

const columns: Column<HerdEvent>[] = [
  { key: "at", title: "Time", width: 168, sort: (e) => e.at, show: (e) => <Moment at={e.at} /> },
  { key: "event", title: "Event", width: 180, sort: (e) => e.event, show: (e) => <Cut className="mono">{e.event}</Cut> },
  { key: "node", title: "Server", width: 130, sort: (e) => e.name ?? "", show: (e) => <Cut>{e.name ?? (e.node === null ? null : `node ${e.node}`)}</Cut> },
  { key: "ok", title: "Outcome", width: 90, sort: (e) => e.successful, show: (e) => <Badge tone={e.successful ? "ok" : "error"}>{e.successful ? "done" : "failed"}</Badge> },
  { key: "details", title: "Details", show: (e) => <Cut>{e.details}</Cut> },
  { key: "by", title: "By", width: 120, sort: (e) => e.by ?? "", show: (e) => <Cut>{e.by}</Cut> },
];

type Which = "all" | "failed" | "operators";

export function Events() {
  const events = useManaged((s) => s.known.events);
  const nodes = useManaged((s) => s.known.herd?.nodes);
  const [search, setSearch] = useState("");
  const [node, setNode] = useState("");
  const [which, setWhich] = useState<Which>("all");
  const rows = useMemo(() => {
    const some = (events ?? []).filter(
      (e) => (node === "" || String(e.node) === node) && (which === "all" || (which === "failed" ? !e.successful : e.by !== null)),
    );
    return matching(some, search, (e) => [e.event, e.name, e.details, e.by]);
  }, [events, search, node, which]);
  return (
    <>
      <PageHead title="Events" about="What has happened to the herd, what pgherd did about it, and what operators ordered." />
      <FailoverList />
      <Panel title="All events" flush>
        <div className="toolbar">
          <SearchBox label="Search events" value={search} onChange={setSearch} />
          <ServerSelect value={node} servers={nodes ?? []} onChange={setNode} />
          <Segmented label="Which" value={which} options={[["all", "All"], ["failed", "Failed"], ["operators", "By operators"]]} onChange={setWhich} />
        </div>
        {events === null ? (
          <Skeleton />
        ) : (
          <Table
            label="Events"
            columns={columns}
            rows={rows}
            id={(e) => `${e.at} ${e.event} ${e.node ?? ""}`}
            first={{ by: "at", down: true }}
            empty={events.length ? <Empty icon="search" title="No event matches." /> : <Empty title="Nothing has happened yet." />}
            detail={(e) => <p className="detail-text"><Text layout>{e.details}</Text></p>}
          />
        )}
      </Panel>
    </>
  );
}
