import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { Manager, ManagerContext } from "./state/manager";
import { applyTheme } from "./state/theme";
import "./styles/index.css";

applyTheme();
const manager = new Manager();
void manager.begin();

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <ManagerContext value={manager}>
        <App />
      </ManagerContext>
    </StrictMode>,
  );
}
