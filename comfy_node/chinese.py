"""The pack's sentences in Simplified Chinese, by the English that stands where they are said."""

from __future__ import annotations

from .wire import ErrorCode

WORKER_SAYS = {
    ErrorCode.VERSION_MISMATCH: "工作进程与节点包的协议版本不同：{words}",
    ErrorCode.UNAUTHORIZED: "工作进程不接受这个令牌：{words}",
    ErrorCode.BAD_MESSAGE: "工作进程看不懂收到的消息：{words}",
    ErrorCode.INVALID_REQUEST: "工作进程拒绝了这个请求：{words}",
    ErrorCode.QUEUE_FULL: "工作进程的队列已满：{words}",
    ErrorCode.MISSING_MODEL: "工作进程加载的模型缺少所需的部分：{words}",
    ErrorCode.OUT_OF_MEMORY: "工作进程的显存不足：{words}",
    ErrorCode.SHUTTING_DOWN: "工作进程正在关闭：{words}",
    ErrorCode.INTERNAL: "工作进程内部出错：{words}",
    ErrorCode.UNKNOWN_JOB: "工作进程不认识这个任务：{words}",
}
"""What goes before the worker's own words, which are in English."""

CHINESE = {
    # Reaching a worker
    "it took too long": "等待超时",
    "No ovis-worker answers at {address}: {why}.": "{address} 上没有 ovis-worker 应答：{why}。",
    "What answers at {address} is not an ovis-worker.": "{address} 上应答的不是 ovis-worker。",
    "What answers at {address} is not an ovis-worker (HTTP status {status}).": (
        "{address} 上应答的不是 ovis-worker（HTTP 状态 {status}）。"
    ),
    "What answers at {address} is not an ovis-worker: it did not say hello.": (
        "{address} 上应答的不是 ovis-worker：它没有按协议问候。"
    ),
    "The worker at {address} is stopping.": "{address} 上的工作进程正在停止。",
    "The worker at {address} refuses to be reached by this host name.": (
        "{address} 上的工作进程拒绝以此主机名访问。"
    ),
    "Start it with --allowed-host and the name, or use its IP address.": (
        "请用 --allowed-host 加上该主机名启动它，或改用它的 IP 地址。"
    ),
    "Another program may be using the port; give the worker another one with --listen.": (
        "该端口可能被其他程序占用；请用 --listen 给工作进程换一个端口。"
    ),
    "The worker at {address} speaks protocol version {theirs}, this node pack version {ours}.": (
        "{address} 上的工作进程使用协议版本 {theirs}，本节点包使用版本 {ours}。"
    ),
    "Update the worker, which is the older of the two.": "请更新工作进程，它较旧。",
    "Update the node pack, which is the older of the two.": "请更新节点包，它较旧。",
    # Starting and stopping one
    "Start it there: ovis-worker serve --model PATH --listen {address}": (
        "请在那台机器上启动：ovis-worker serve --model PATH --listen {address}"
    ),
    "Start one: ovis-worker serve --model PATH --listen {address}\n"
    "Or set OVIS_WORKER_BIN to the binary (`cargo build --release` in this node pack's folder "
    "makes target/release/ovis-worker) and OVIS_WORKER_MODEL to the weights, restart "
    "ComfyUI, and it is started for you.": (
        "请启动一个：ovis-worker serve --model PATH --listen {address}\n"
        "或者把 OVIS_WORKER_BIN 设为程序文件（在节点包的文件夹中运行 `cargo build --release` "
        "会生成 target/release/ovis-worker），把 OVIS_WORKER_MODEL 设为权重，"
        "重启 ComfyUI 后会自动启动。"
    ),
    "The worker binary {path} could not be started: {why}.": "无法启动工作进程 {path}：{why}。",
    "The worker that was started ended with status {status}.": (
        "启动的工作进程已退出，状态为 {status}。"
    ),
    "The worker that was started does not answer at {address} after {seconds:.0f} seconds.": (
        "启动的工作进程在 {seconds:.0f} 秒后仍未在 {address} 应答。"
    ),
    "Its log, {path}, ends:\n{end}": "它的日志 {path} 的末尾是：\n{end}",
    "The worker `{label}` cannot be started from here.": "无法从这里启动工作进程“{label}”。",
    "The worker at {address} was not started from here.": (
        "{address} 上的工作进程不是从这里启动的。"
    ),
    "End it where it was started.": "请在启动它的地方结束它。",
    # Jobs
    "Waiting for the worker: 1 job runs before this one.": "正在等待工作进程：前面还有 1 个任务。",
    "Waiting for the worker: {jobs} jobs run before this one.": (
        "正在等待工作进程：前面还有 {jobs} 个任务。"
    ),
    "The connection to the worker at {address} was lost during the job.": (
        "任务进行中，与 {address} 上工作进程的连接断开了。"
    ),
    "See the worker's log; if it ended by itself, its last lines say why.": (
        "请查看工作进程的日志；如果它自行退出，最后几行会说明原因。"
    ),
    "{lost} Waiting until it is there again.": "{lost}正在等待它恢复。",
    "{lost} It was not there again after {seconds:.0f} seconds.": (
        "{lost}{seconds:.0f} 秒后仍未恢复。"
    ),
    "The worker at {address} is shutting down: {why}": "{address} 上的工作进程正在关闭：{why}",
    "Run the workflow again when it is back.": "等它恢复后，请重新运行工作流。",
    "The worker dropped the job as if it had been cancelled.": "工作进程放弃了任务，如同已被取消。",
    "The worker at {address} sent what is not a message: {why}.": (
        "{address} 上的工作进程发来了无法识别的消息：{why}。"
    ),
    "The worker's answer has no `{name}`.": "工作进程的答复中没有“{name}”。",
    "The request cannot be sent: {why}.": "无法发送请求：{why}。",
    # Denoising
    "The {name} conditioning has {count} entries, Ovis Denoise takes one.": (
        "{name} 条件有 {count} 项，而 Ovis 去噪只接受一项。"
    ),
    "Put the texts into one prompt instead of combining conditionings.": (
        "请把文字写进同一个提示词，不要合并条件。"
    ),
    "The {name} conditioning asks for {what}, which Ovis Denoise cannot do.": (
        "{name} 条件要求 {what}，Ovis 去噪不支持。"
    ),
    "Connect the conditioning without the node that adds it.": "请去掉添加它的节点，直接连接条件。",
    "The latent has the shape {shape}, Ovis-Image's is [batch, {channels}, height / 8, "
    "width / 8].": (
        "Latent 的形状是 {shape}，而 Ovis-Image 的是 [batch, {channels}, height / 8, width / 8]。"
    ),
    "Encode the image with Ovis VAE Encode or with FLUX.1's VAE.": (
        "请用“Ovis VAE 编码”或 FLUX.1 的 VAE 编码图像。"
    ),
    "With a cfg other than 1 Ovis Denoise needs a negative conditioning.": (
        "cfg 不为 1 时，Ovis 去噪需要负向条件。"
    ),
    "Connect an Ovis Prompt Encode with an empty prompt, or set cfg to 1.": (
        "请连接一个提示词为空的“Ovis 提示词编码”，或把 cfg 设为 1。"
    ),
    "guidance_start is {start:g}, below guidance_end, {end:g}.": (
        "guidance_start 为 {start:g}，小于 guidance_end 的 {end:g}。"
    ),
    "Sigmas fall from 1 to 0 while an image is made: give the larger one as the start.": (
        "生成图像时 sigma 从 1 降到 0：请把较大的值作为起点。"
    ),
    "The sigmas do not fall within 1 to 0, as those of a flow model do.": (
        "这些 sigma 不是像流匹配模型那样从 1 以内降到 0。"
    ),
    "Make them with a BasicScheduler whose model is Ovis-Image or FLUX.1.": (
        "请用模型为 Ovis-Image 或 FLUX.1 的 BasicScheduler 生成。"
    ),
    "The sampler {name} is given {what}, which Ovis Denoise cannot do.": (
        "采样器 {name} 带有 {what}，Ovis 去噪不支持。"
    ),
    "Use the sampler without these options.": "请去掉采样器的这些选项。",
    "Ovis Denoise has no sampler like the connected {name}.": (
        "Ovis 去噪没有与所连接的 {name} 对应的采样器。"
    ),
    "Choose one of: {names}.": "请从中选择：{names}。",
    # Contact sheets
    "The contact sheet would have {count} images, the most is {most}.": (
        "样张页会有 {count} 张图像，最多为 {most} 张。"
    ),
    "Shorten one of the lists, or make a second sheet.": "请缩短其中一个列表，或另做一页。",
    "The list of {name} is empty.": "{name} 的列表是空的。",
    "Write numbers such as: 0, 1, 2.": "请填写数字，例如：0, 1, 2。",
    "`{piece}` is not one of the {name}, {least} to {most}.": (
        "“{piece}”不是有效的 {name}，应在 {least} 到 {most} 之间。"
    ),
    "Write whole numbers and ranges, such as: 1, 2, 10-13.": (
        "请填写整数和范围，例如：1, 2, 10-13。"
    ),
    "`{piece}` is not a {name}, {least:g} to {most:g}.": (
        "“{piece}”不是有效的 {name}，应在 {least:g} 到 {most:g} 之间。"
    ),
    "Write numbers, such as: 3, 5, 7.5.": "请填写数字，例如：3, 5, 7.5。",
    "A range runs upwards, as in 10-13.": "范围应从小到大，例如 10-13。",
    "The contact sheet would have {width} × {height} pixels, the most is {most} each way.": (
        "样张页会有 {width} × {height} 像素，每边最多为 {most}。"
    ),
    "Set a smaller cell_size.": "请把 cell_size 设小一些。",
    # House templates
    "The house template `{name}` is not here.": "这里没有名为“{name}”的模板。",
    "Put {name}.json into the folder {folder} in ComfyUI's user folder, or choose another "
    "template.": "请把 {name}.json 放进 ComfyUI 用户文件夹中的 {folder} 文件夹，或选择其他模板。",
    "The house template `{name}` ({path}) {why}.": "模板“{name}”（{path}）{why}。",
    "is larger than 64 KiB": "超过 64 KiB",
    "cannot be read: {why}": "无法读取：{why}",
    "is not a JSON object": "不是 JSON 对象",
    "has no `prompt`, a text or a list of texts": "缺少 `prompt`，它应是文本或文本列表",
    "has a `negative`, `about` or `defaults` that is not text": (
        "的 `negative`、`about` 或 `defaults` 不是文本"
    ),
    "has a box `{box}`, which there is not": "使用了不存在的栏 `{box}`",
    'It is {{"prompt": [TEXT], "negative": TEXT, "about": TEXT, "defaults": {{BOX: TEXT}}}}, '
    "of which only the prompt is needed; the boxes are {boxes}.": (
        '格式为 {{"prompt": [TEXT], "negative": TEXT, "about": TEXT, "defaults": {{BOX: TEXT}}}}，'
        "其中只有 prompt 是必需的；可用的栏有 {boxes}。"
    ),
    # Workers' settings
    "This workflow runs on a worker called `{label}`, which is not set up here.": (
        "这个工作流使用名为“{label}”的工作进程，但此处没有设置它。"
    ),
    'Choose `{default}`, or describe it in {path}: {{"workers": {{"{label}": '
    '{{"url": "ws://HOST:7867", "token": "..."}}}}}}': (
        '请选择“{default}”，或在 {path} 中描述它：{{"workers": {{"{label}": '
        '{{"url": "ws://HOST:7867", "token": "..."}}}}}}'
    ),
    "`{url}` is not a worker's address.": "“{url}”不是工作进程的地址。",
    "Write it as ws://HOST:PORT or wss://HOST:PORT.": (
        "请写成 ws://HOST:PORT 或 wss://HOST:PORT。"
    ),
    "The worker settings in {path} cannot be read: {why}.": "无法读取 {path} 中的设置：{why}。",
    "The worker settings in {path} cannot be written: {why}.": "无法写入 {path} 中的设置：{why}。",
    "The worker `{label}` in {path} is not understood.": "无法理解 {path} 中的工作进程“{label}”。",
    'It is {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, "args": [TEXT]}}, '
    "each of them optional.": (
        '格式为 {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, "args": [TEXT]}}，'
        "每一项都可以省略。"
    ),
    "`{label}` is not a worker's label.": "“{label}”不能用作工作进程的标签。",
    "Use up to 40 letters, digits, points, hyphens and underscores.": (
        "请使用不超过 40 个字母、数字、点、连字符和下划线。"
    ),
    "A worker has the text settings {names}.": "工作进程的设置项为文本：{names}。",
    "There are no settings for a worker called `{label}`.": "没有名为“{label}”的工作进程的设置。",
    "There is no program {path}.": "没有程序 {path}。",
    "Name the ovis-worker binary by its whole path on the machine that ComfyUI runs on.": (
        "请填写 ovis-worker 程序文件在运行 ComfyUI 的机器上的完整路径。"
    ),
    "There is nothing at {path}.": "{path} 处没有任何内容。",
    "Name the folder or file with the weights, or leave it empty for ComfyUI's own models "
    "folder.": "请填写权重所在的文件夹或文件；留空则使用 ComfyUI 自己的 models 文件夹。",
    "ComfyUI has no user folder to keep settings in.": "ComfyUI 没有可保存设置的用户文件夹。",
    # Asking the pack's routes
    "Only JSON is taken here.": "这里只接受 JSON。",
    "The request is not JSON.": "请求不是 JSON。",
    "The request is not a JSON object.": "请求不是 JSON 对象。",
    "This request comes from another web page.": "该请求来自其他网页。",
    "This request names a host that this machine is not.": "该请求中的主机名不是本机。",
    "Settings that name programs and secrets are changed in a browser on the machine that "
    "ComfyUI runs on, or in ovis_worker.json there.": (
        "涉及程序和密钥的设置，只能在运行 ComfyUI 的机器上的浏览器中修改，或修改那里的 "
        "ovis_worker.json。"
    ),
    "Advice is given for a prompt, and numbers of steps and cfg.": (
        "建议需要提示词，以及数值形式的 steps 和 cfg。"
    ),
    "A template is filled with texts.": "模板的各栏应填写文本。",
    "A page has a number and a language.": "页面应有编号和语言。",
}
