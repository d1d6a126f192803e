import { type MouseEvent, useState } from "react";
import type { Row } from "../../api/reports";
import { go } from "../../app/Nav";
import { Plots } from "../../charts/panels";
import { useResource } from "../../state/resource";
import { useRoute } from "../../state/route";
import { useManager, useWhyNot } from "../../state/manager";
import { Button, SearchBox } from "../../ui/controls";
import { Empty, Loaded, PageHead, Panel } from "../../ui/parts";
import { Table, matching } from "../../ui/Table";
import { type Tab, tabs } from "./tabs";

export function Pools() {
  const [, chosen = "pools"] = useRoute();
  const tab = tabs.find((t) => t.path === chosen) ?? (tabs[0] as Tab);
  const manager = useManager();
  const whyNot = useWhyNot();
  return (
    <>
      <PageHead title="Pools and clients" about="Who is connected, what waits, and which server connections are lent.">
        <Button icon="pause" whyNot={whyNot} onClick={() => manager.ask({ action: "pause" })}>Pause all</Button>
        <Button icon="play" whyNot={whyNot} onClick={() => manager.ask({ action: "resume" })}>Resume all</Button>
      </PageHead>
      <Tabs current={tab.path} />
      <View key={tab.path} tab={tab} />
      <Plots plots={["connections", "throughput"]} />
    </>
  );
}

function Tabs({ current }: { current: string }) {
  return (
    <nav className="tabs" aria-label="Pools and clients">
      {tabs.map((tab) => (
        <a key={tab.path} href={`/pools/${tab.path}`} aria-current={tab.path === current ? "page" : undefined} onClick={(event: MouseEvent) => go(event, `/pools/${tab.path}`)}>
          {tab.title}
        </a>
      ))}
    </nav>
  );
}

function View({ tab }: { tab: Tab }) {
  const rows = useResource<Row[]>(`show/${tab.view}`, 2);
  const [search, setSearch] = useState("");
  return (
    <Panel flush>
      <div className="toolbar">
        <SearchBox label={`Search ${tab.title.toLowerCase()}`} value={search} onChange={setSearch} />
        {rows.data && <span className="toolbar-count number">{rows.data.length}</span>}
        <p className="toolbar-about">{tab.about}</p>
      </div>
      <Loaded of={rows}>
        {(data) => (
          <Table
            label={tab.title}
            columns={tab.columns}
            rows={matching(data, search, (row) => Object.values(row))}
            id={tab.id}
            {...(tab.first ? { first: tab.first } : {})}
            empty={data.length ? <Empty icon="search" title="Nothing matches." /> : <Empty title={tab.none} />}
          />
        )}
      </Loaded>
    </Panel>
  );
}
