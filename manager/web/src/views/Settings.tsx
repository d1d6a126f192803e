import { useMemo, useState } from "react";
import type { Setting } from "../api/reports";
import { useManager, useWhyNot } from "../state/manager";
import { useReloadAfter, useResource } from "../state/resource";
import { visible } from "../state/visible";
import { Button, SearchBox, Segmented } from "../ui/controls";
import { Badge, Empty, Loaded, PageHead, Panel } from "../ui/parts";
import { type Column, Table, matching } from "../ui/Table";
import { Cut } from "../ui/Text";

const say = (value: Setting["value"]) => (value === null || value === "" ? null : String(value));
const changed = (row: Setting) => say(row.value) !== say(row.default);

const changing = ["set", "reload"];

const columns: Column<Setting>[] = [
  { key: "key", title: "Setting", width: 300, sort: (r) => r.key, show: (r) => <Cut className="mono">{r.key}</Cut> },
  { key: "value", title: "Value", show: (r) => <Cut className={`mono ${changed(r) ? "strong" : ""}`}>{say(r.value)}</Cut> },
  { key: "default", title: "Default", show: (r) => <Cut className="mono faint">{say(r.default)}</Cut> },
  { key: "source", title: "Comes from", width: 170, sort: (r) => r.source, show: (r) => <Cut>{r.source}</Cut> },
  { key: "restart", title: "Change", width: 112, sort: (r) => r.restart, show: (r) => (r.restart ? <Badge tone="warning">restart</Badge> : <span className="faint">at once</span>) },
  { key: "act", title: "", width: 60, show: (r) => <Change row={r} /> },
];

export function Settings() {
  const manager = useManager();
  const whyNot = useWhyNot();
  return (
    <>
      <PageHead title="Settings" about="What pgherd runs with, and where each value comes from. Secrets are never shown.">
        <Button icon="restore" whyNot={whyNot} onClick={() => manager.ask({ action: "reload" })}>Reload</Button>
      </PageHead>
      <List />
    </>
  );
}

function List() {
  const said = useResource<Setting[]>("settings", 0);
  useReloadAfter(changing, said.reload);
  const [search, setSearch] = useState("");
  const [which, setWhich] = useState<"all" | "changed" | "restart">("all");
  return (
    <Panel flush>
      <div className="toolbar">
        <SearchBox label="Search settings" value={search} onChange={setSearch} />
        <Segmented label="Which" value={which} options={[["all", "All"], ["changed", "Not the default"], ["restart", "Need a restart"]]} onChange={setWhich} />
      </div>
      <Loaded of={said}>{(data) => <Rows data={data} which={which} search={search} />}</Loaded>
    </Panel>
  );
}

function Rows({ data, which, search }: { data: Setting[]; which: string; search: string }) {
  const rows = useMemo(() => {
    const some = data.filter((r) => which === "all" || (which === "restart" ? r.restart : changed(r)));
    return matching(some, search, (r) => [r.key, r.value, r.source]);
  }, [data, which, search]);
  return <Table label="Settings" columns={columns} rows={rows} id={(r) => r.key} first={{ by: "key", down: false }} empty={<Empty icon="search" title="No setting matches." />} />;
}

function Change({ row }: { row: Setting }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  return <Button small kind="quiet" icon="edit" aria-label={`Change ${visible(row.key)}`} title="Change" whyNot={whyNot ?? (row.restart ? "It is read at the start alone: change the file, and restart" : null)} onClick={() => manager.ask({ action: "set", key: row.key, value: say(row.value) ?? "" })} />;
}
