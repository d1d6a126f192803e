import { Plots } from "../../charts/panels";
import { Panel } from "../../ui/parts";
import { Banner } from "./Banner";
import { MachinePanel } from "./MachinePanel";
import { Picture } from "./Picture";

const plots = ["throughput", "latency", "lag", "connections"] as const;

export function Herd() {
  return (
    <>
      <h1 className="unseen">Herd</h1>
      <Banner />
      <Panel className="picture-panel">
        <Picture />
      </Panel>
      <MachinePanel />
      <Plots plots={[...plots]} />
    </>
  );
}
