import { useMemo, useState } from "react";
import type { Point } from "../api/types";
import { bytes, count, duration, millis, short } from "../state/format";
import { useManaged } from "../state/manager";
import { visible } from "../state/visible";
import { Segmented } from "../ui/controls";
import { Panel } from "../ui/parts";
import { Chart, type Series } from "./Chart";

export type Plot = "throughput" | "latency" | "lag" | "lagTime" | "connections";

const fixed: Record<"throughput" | "latency" | "connections", { title: string; series: Series[]; pick: ((p: Point) => number | null)[]; format: (v: number | null | undefined) => string }> = {
  throughput: {
    title: "Throughput, per second",
    series: [
      { label: "queries", color: "--series-2" },
      { label: "transactions", color: "--series-1", fill: true },
    ],
    pick: [(p) => p.queries, (p) => p.transactions],
    format: short,
  },
  latency: {
    title: "Query time",
    series: [
      { label: "p50", color: "--series-1" },
      { label: "p95", color: "--series-2" },
      { label: "p99", color: "--series-3" },
      { label: "wait p99", color: "--series-4", dash: true },
    ],
    pick: [(p) => p.p50_ms, (p) => p.p95_ms, (p) => p.p99_ms, (p) => p.wait_p99_ms],
    format: millis,
  },
  connections: {
    title: "Clients and server connections",
    series: [
      { label: "clients", color: "--series-1", fill: true },
      { label: "lent", color: "--series-2" },
      { label: "idle", color: "--series-5" },
      { label: "waiting", color: "--series-3" },
    ],
    pick: [(p) => p.clients, (p) => p.active, (p) => p.idle, (p) => p.waiting],
    format: count,
  },
};

const colors = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];

const ranges = [["300", "5 min"], ["900", "15 min"], ["3600", "1 hour"]] as const;

export function Plots({ plots, title = "Over time" }: { plots: Plot[]; title?: string }) {
  const [range, setRange] = useState<"300" | "900" | "3600">("900");
  return (
    <Panel title={title} aside={<Segmented label="Time shown" value={range} options={ranges} onChange={setRange} />}>
      <div className="plots">
        {plots.map((plot) =>
          plot === "lag" || plot === "lagTime" ? (
            <LagPlot key={plot} time={plot === "lagTime"} seconds={Number(range)} />
          ) : (
            <FixedPlot key={plot} plot={plot} seconds={Number(range)} />
          ),
        )}
      </div>
    </Panel>
  );
}

function FixedPlot({ plot, seconds }: { plot: "throughput" | "latency" | "connections"; seconds: number }) {
  const points = useManaged((s) => s.known.points);
  const { title, series, pick, format } = fixed[plot];
  const data = useMemo(() => columns(points, pick), [points, pick]);
  return <Chart title={title} series={series} data={data} format={format} seconds={seconds} />;
}

function LagPlot({ time, seconds }: { time: boolean; seconds: number }) {
  const points = useManaged((s) => s.known.points);
  const nodes = useManaged((s) => s.known.herd?.nodes);
  const ids = useMemo(() => {
    // A server that is down now had a lag before.
    const all = new Set(points.flatMap((p) => Object.keys(p.lag_bytes)));
    return [...all].sort((a, b) => Number(a) - Number(b)).join(",");
  }, [points]);
  const names = (nodes ?? []).map((n) => `${n.id} ${n.name}`).join("\n");
  const series = useMemo<Series[]>(
    () =>
      ids.split(",").filter(Boolean).map((id, i) => ({
        label: visible(nodes?.find((n) => String(n.id) === id)?.name ?? `node ${id}`).slice(0, 24),
        color: colors[i % colors.length] ?? "--series-1",
      })),
    // Of the servers, only the names matter here.
    [ids, names],
  );
  const data = useMemo(
    () => columns(points, ids.split(",").filter(Boolean).map((id) => (p: Point) => (time ? p.lag_seconds : p.lag_bytes)[id] ?? null)),
    [points, ids, time],
  );
  return <Chart title={time ? "Replay lag" : "Replication lag"} series={series} data={data} format={time ? duration : bytes} seconds={seconds} />;
}

function columns(points: Point[], pick: ((p: Point) => number | null)[]): (number | null)[][] {
  return [points.map((p) => Date.parse(p.at) / 1000), ...pick.map((value) => points.map(value))];
}
