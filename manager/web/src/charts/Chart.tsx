import { memo, useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { bytes, clock } from "../state/format";
import { useTheme } from "../state/theme";

export interface Series {
  label: string;
  /** Name of a CSS variable. */
  color: string;
  fill?: boolean;
  dash?: boolean;
}

interface ChartProps {
  title: string;
  series: Series[];
  /** Times in seconds, then a column for each series. */
  data: (number | null)[][];
  format(value: number | null | undefined): string;
  /** How far the time goes back. */
  seconds: number;
}

const height = 168;
// So that the ticks of sizes are round in kB and MB.
const powersOfTwo = Array.from({ length: 50 }, (_, i) => 2 ** i);
const cursors = uPlot.sync("pgherd");

/** A plot of one hour at most. The legend says the newest values, or those under the cursor of any plot. */
export const Chart = memo(function Chart({ title, series, data, format, seconds }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLDListElement>(null);
  const plot = useRef<uPlot | null>(null);
  const newest = useRef(data);
  const range = useRef(seconds);
  const theme = useTheme();
  const shape = series.map((s) => s.label + s.color).join("\n");
  newest.current = data;
  range.current = seconds;

  useEffect(() => {
    const place = box.current;
    if (!place) return;
    const say = (at: number | null | undefined) => tell(legend.current, newest.current, at ?? null, format);
    const made = new uPlot(options(place.clientWidth, series, format, range, say), newest.current as uPlot.AlignedData, place);
    plot.current = made;
    say(null);
    const sized = new ResizeObserver(() => made.setSize({ width: place.clientWidth, height }));
    sized.observe(place);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
    // The plot is made anew when its colours or its lines change, and fed otherwise.
  }, [shape, theme, format]);

  useEffect(() => {
    plot.current?.setData(data as uPlot.AlignedData);
    if (plot.current && plot.current.cursor.idx == null) tell(legend.current, data, null, format);
  }, [data, seconds, format]);

  return (
    <figure className="chart" aria-label={`${title}: ${summary(series, data, format)}`}>
      <figcaption>
        <span className="chart-title">{title}</span>
        <dl ref={legend} className="legend">
          {series.map((s) => (
            <div key={s.label}>
              <dt>
                <span className={`swatch ${s.dash ? "dash" : ""}`} ref={(mark) => { mark?.style.setProperty("--swatch", `var(${s.color})`); }} />
                <bdi>{s.label}</bdi>
              </dt>
              <dd className="number" />
            </div>
          ))}
        </dl>
      </figcaption>
      <div ref={box} className="plot" />
      {(data[0]?.length ?? 0) < 2 && <p className="chart-empty">Points come every five seconds</p>}
    </figure>
  );
});

function tell(legend: HTMLElement | null, data: (number | null)[][], at: number | null, format: ChartProps["format"]): void {
  const index = at ?? (data[0]?.length ?? 0) - 1;
  legend?.querySelectorAll("dd").forEach((value, i) => {
    value.textContent = format(data[i + 1]?.[index]);
  });
}

function summary(series: Series[], data: (number | null)[][], format: ChartProps["format"]): string {
  return series.map((s, i) => `${s.label} ${format(data[i + 1]?.at(-1))}`).join(", ");
}

function options(width: number, series: Series[], format: ChartProps["format"], range: { current: number }, say: (at: number | null | undefined) => void): uPlot.Options {
  const css = getComputedStyle(document.documentElement);
  const color = (name: string) => css.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: color("--text-muted"),
    font: "11px 'Inter Variable', system-ui, sans-serif",
    ticks: { show: false },
    grid: { stroke: color("--grid"), width: 1 },
  };
  return {
    width,
    height,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: cursors.key }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true, range: (_, __, max) => [max - range.current, max] },
      y: { range: (_, __, max) => [0, Math.max(max * 1.1, 1e-3)] },
    },
    axes: [
      { ...axis, size: 28, space: 70, values: (_, times) => times.map((t) => clock(new Date(t * 1000).toISOString()).slice(0, 5)) },
      { ...axis, size: 58, space: 30, ...(format === bytes ? { incrs: powersOfTwo } : {}), values: (_, values) => values.map((v) => format(v)) },
    ],
    series: [
      {},
      ...series.map((s) => ({
        label: s.label,
        stroke: color(s.color),
        width: 1.5,
        points: { show: false },
        ...(s.dash ? { dash: [4, 4] } : {}),
        ...(s.fill ? { fill: `color-mix(in srgb, ${color(s.color)} 12%, transparent)` } : {}),
      })),
    ],
    hooks: { setCursor: [(u) => say(u.cursor.idx)] },
  };
}
