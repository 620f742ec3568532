"""The pack's sentences in Simplified Chinese, with the English sentence as key."""

from __future__ import annotations

from ..wire.error import ErrorCode
from .chinese_reaching import REACHING

WORKER_SAYS = {
    ErrorCode.VERSION_MISMATCH: "Ovis 服务与节点包的协议版本不同：{words}",
    ErrorCode.UNAUTHORIZED: "Ovis 服务不接受这个令牌：{words}",
    ErrorCode.BAD_MESSAGE: "Ovis 服务无法解析收到的消息：{words}",
    ErrorCode.INVALID_REQUEST: "Ovis 服务拒绝了这个请求：{words}",
    ErrorCode.QUEUE_FULL: "Ovis 服务的队列已满：{words}",
    ErrorCode.MISSING_MODEL: "Ovis 服务没有所需的模型，或模型缺少所需的部分：{words}",
    ErrorCode.OUT_OF_MEMORY: "Ovis 服务的内存或显存不足：{words}",
    ErrorCode.SHUTTING_DOWN: "Ovis 服务正在关闭：{words}",
    ErrorCode.INTERNAL: "Ovis 服务内部出错：{words}",
    ErrorCode.UNKNOWN_JOB: "Ovis 服务找不到这个任务：{words}",
    ErrorCode.CONFLICT: "Ovis 服务已有编号相同而内容不同的任务：{words}",
    ErrorCode.DEADLINE_EXCEEDED: "任务没有在期限内完成：{words}",
    ErrorCode.FORBIDDEN: "这个令牌没有所需的权限：{words}",
    ErrorCode.EXPIRED: "任务的结果已不再保留：{words}",
    ErrorCode.UNSUPPORTED: "Ovis 服务不支持这个请求：{words}",
}
"""The sentences that introduce the worker's own words, which are in English."""

CHINESE = {
    **REACHING,
    # Starting and stopping one
    "Check host, port and token in the settings, and that no firewall blocks the connection. "
    "Check that the worker runs there: ovis-worker serve --model PATH --listen "
    "0.0.0.0:{port} --token TOKEN": (
        "请检查设置中的主机、端口和令牌是否正确，中间有没有防火墙，以及它是否在那台机器上运行："
        "ovis-worker serve --model PATH --listen 0.0.0.0:{port} --token TOKEN"
    ),
    "Start it in the Ovis tab of the sidebar, or run: {binary} serve --model PATH --listen "
    "{address}": (
        "请在侧边栏的 Ovis 页启动它，或手动运行：{binary} serve --model PATH --listen {address}"
    ),
    "Install the worker: run `{command}`. The nodes then start it. If you have a binary "
    "elsewhere, set OVIS_WORKER_BIN to its path.": (
        "请安装 Ovis 服务：运行 `{command}`，之后节点会自动启动它。程序文件若在别处，"
        "请用 OVIS_WORKER_BIN 指定。"
    ),
    "There is no ready-made worker for this system. Install Rust from https://rustup.rs, then "
    "build the worker: run `{build}` in {folder}. The nodes then start it. If you have a binary "
    "elsewhere, set OVIS_WORKER_BIN to its path.": (
        "没有适用于本系统的现成 Ovis 服务。请先从 https://rustup.rs 安装 Rust，再编译 Ovis 服务："
        "在 {folder} 中运行 `{build}`，之后节点会自动启动它。"
        "程序文件若在别处，请用 OVIS_WORKER_BIN 指定。"
    ),
    "Build the worker: run `{build}` in {folder}. The nodes then start it. If you have a "
    "binary elsewhere, set OVIS_WORKER_BIN to its path, or run: ovis-worker serve --model "
    "PATH --listen {address}": (
        "请编译 Ovis 服务：在 {folder} 中运行 `{build}`，之后节点会自动启动它。程序文件若在别处，"
        "请用 OVIS_WORKER_BIN 指定，或手动运行：ovis-worker serve --model PATH --listen {address}"
    ),
    "The worker binary {path} could not be started: {why}.": "无法启动 Ovis 服务 {path}：{why}。",
    "The worker exited with status {status} while it was starting.": (
        "Ovis 服务在启动时退出，状态为 {status}。"
    ),
    "The operating system killed the worker while it was starting (status {status}), most "
    "likely because memory ran out.": (
        "系统结束了刚启动的 Ovis 服务（状态 {status}），很可能是内存不足。"
    ),
    "Close other programs, choose a smaller --precision, or limit the worker with --memory. "
    "{log}": "请关闭其他程序，选择更小的 --precision，或用 --memory 限制它的内存。{log}",
    "Another program uses {address}, and no worker answers there after {seconds:.0f} seconds.": (
        "{address} 被另一个程序占用，{seconds:.0f} 秒后仍没有 Ovis 服务应答。"
    ),
    "Stop that program, or give the worker another address in the settings.": (
        "请结束那个程序，或在设置中给 Ovis 服务换一个地址。"
    ),
    "The worker was started, but does not answer at {address} after {seconds:.0f} seconds.": (
        "启动的 Ovis 服务在 {seconds:.0f} 秒后仍未在 {address} 应答。"
    ),
    "The last lines of its log, {path}:\n{end}": "它的日志 {path} 的末尾是：\n{end}",
    "The worker `{label}` cannot be started from here.": "无法从这里启动 Ovis 服务“{label}”。",
    "The worker at {address} was not started by the node pack.": (
        "{address} 上的 Ovis 服务不是由节点包启动的。"
    ),
    "Stop it where it was started.": "请在启动它的地方停止它。",
    # Jobs
    "Waiting for the worker: 1 job runs before this one.": (
        "正在等待 Ovis 服务：前面还有 1 个任务。"
    ),
    "Waiting for the worker: {jobs} jobs run before this one.": (
        "正在等待 Ovis 服务：前面还有 {jobs} 个任务。"
    ),
    "The worker exited while it ran this job. The job was not sent again, because it may be "
    "the cause.": "Ovis 服务在运行这个任务时退出了，因此没有重新发送该任务：它可能就是原因。",
    "Queue the workflow again to retry.": "如需重试，请重新将工作流加入队列。",
    "The job failed in the node pack: {why} ({kind}).": "任务在节点包中出错：{why}（{kind}）。",
    "ComfyUI's log has the details.": "详情见 ComfyUI 的日志。",
    "The worker cancelled the job, although it was not asked to.": (
        "Ovis 服务取消了这个任务，但并未收到取消请求。"
    ),
    "The worker at {address} sent an invalid message: {why}.": (
        "{address} 上的 Ovis 服务发来的消息无法解析：{why}。"
    ),
    "The worker's answer has no `{name}`.": "Ovis 服务的答复中没有“{name}”。",
    "The request cannot be sent: {why}.": "无法发送请求：{why}。",
    # What comes into a node
    "The input `{name}` expects {takes}, but got {got}.": (
        "输入“{name}”应为{takes}，收到的却是{got}。"
    ),
    "Connect a node that outputs such a value, or remove the link.": (
        "请连接能给出这种值的节点，或删除该连线。"
    ),
    "nothing (None)": "空值（None）",
    "the text `{text}`": "文本“{text}”",
    "a tensor of shape {shape} ({kind})": "形状为 {shape} 的张量（{kind}）",
    "a number of more than 38 digits": "超过 38 位的数",
    "a {kind} of length {count}": "长度为 {count} 的 {kind}",
    "a value of type {kind}": "类型为 {kind} 的值",
    "a worker's label": "Ovis 服务的标签",
    "a model's name": "模型的名称",
    "Choose one of the list.": "请从列表中选择。",
    "The worker `{label}` has no model called `{name}`.": (
        "Ovis 服务“{label}”没有名为“{name}”的模型。"
    ),
    "It has: {names}. Another one is added with `serve --also NAME=PATH`.": (
        "它有：{names}。可以用 `serve --also NAME=PATH` 添加其他模型。"
    ),
    "Connect the output of an Ovis Worker.": "请连接“Ovis 服务”节点的输出。",
    "a whole number from {least} to {most}": "{least} 到 {most} 的整数",
    "a number from {least:g} to {most:g}": "{least:g} 到 {most:g} 的数",
    "a text": "文本",
    "one of: {names}": "以下之一：{names}",
    "The input `{name}` contains half of a character, which is not valid text.": (
        "输入“{name}”含有半个字符，不是有效的文本。"
    ),
    "Retype the text near `{place}`.": "请重新输入“{place}”附近的文字。",
    "The input `{name}` has {length} bytes of text; the maximum is {most}.": (
        "输入“{name}”的文本有 {length} 字节，最多为 {most} 字节。"
    ),
    "Shorten the text.": "请缩短文本。",
    "an IMAGE of floats, [batch, height, width, 3 or more channels]": (
        "浮点数的图像（IMAGE），形状为 [批次, 高, 宽, 3 个以上通道]"
    ),
    "Connect a node that makes an IMAGE, such as Load Image.": (
        "请连接能给出图像的节点，例如“加载图像”。"
    ),
    "The input `{name}` is {side}; Ovis-Image needs a multiple of {multiple}.": (
        "输入“{name}”为 {side}，而 Ovis-Image 需要 {multiple} 的倍数。"
    ),
    "Use {low} or {high}.": "请使用 {low} 或 {high}。",
    "{width} × {height} pixels is not a size for Ovis-Image.": (
        "Ovis-Image 不能使用 {width} × {height} 像素的尺寸。"
    ),
    "Use at most {most} megapixels, and a width from a quarter of the height to four times the "
    "height.": "最多 {most} 百万像素，宽度应为高度的四分之一到四倍。",
    "The input `{name}` is {width} × {height} pixels; the minimum is {least} in each direction.": (
        "输入“{name}”为 {width} × {height} 像素，每边至少为 {least}。"
    ),
    "Make the image larger, for example with Upscale Image.": "请放大图像，例如使用“图像缩放”。",
    "The input `{name}` has values from {low:g} to {high:g}; an IMAGE has values from 0 to 1.": (
        "输入“{name}”的值为 {low:g} 到 {high:g}，图像的值应为 0 到 1。"
    ),
    "If the values are from 0 to 255, divide them by 255.": "如果值为 0 到 255，请除以 255。",
    "The input `{name}` cannot be read: {why}.": "无法读取输入“{name}”：{why}。",
    "Run the node before this one again.": "请重新运行上一个节点。",
    "The input `{name}` contains NaN or infinity in {bad} of {count} values.": (
        "输入“{name}”的 {count} 个值中有 {bad} 个是 NaN 或无穷大。"
    ),
    "Check the nodes before this one: a computation in half precision may have overflowed.": (
        "请检查前面的节点：半精度计算可能溢出了。"
    ),
    "a LATENT with samples of floats": "含有浮点数 samples 的 LATENT",
    "Connect a node that makes a LATENT, such as Ovis Empty Latent.": (
        "请连接能给出 LATENT 的节点，例如“Ovis 空 Latent”。"
    ),
    "a MASK of floats, [batch, height, width]": "浮点数的遮罩（MASK），形状为 [批次, 高, 宽]",
    "Remove the node that sets the mask, or connect a mask to it.": (
        "请去掉设置遮罩的节点，或给它连接一个遮罩。"
    ),
    "a CONDITIONING": "条件（CONDITIONING）",
    "Connect an Ovis Prompt Encode, or another node that makes a CONDITIONING.": (
        "请连接“Ovis 提示词编码”，或其他能给出条件的节点。"
    ),
    "The {name} conditioning has the width {width}; the worker's model expects {wanted}.": (
        "{name} 条件的宽度为 {width}，Ovis 服务的模型需要 {wanted}。"
    ),
    "Encode the prompt with Ovis Prompt Encode on the same worker.": (
        "请用同一个 Ovis 服务上的“Ovis 提示词编码”来编码提示词。"
    ),
    "a SAMPLER": "采样器（SAMPLER）",
    "Connect a node that makes a SAMPLER, such as KSamplerSelect.": (
        "请连接能给出采样器的节点，例如“K采样器选择”。"
    ),
    "SIGMAS, a list of floats in one tensor": "SIGMAS，即由浮点数组成的一维张量",
    "{count} whole numbers, one for each entry of the batch": "{count} 个整数，批次中每项一个",
    "Remove the node that selects from the batch, or use its whole output.": (
        "请去掉从批次中挑选的节点，或使用它的全部输出。"
    ),
    # Denoising
    "The {name} conditioning has {count} entries; Ovis Denoise accepts one.": (
        "{name} 条件有 {count} 项，而 Ovis 降噪只接受一项。"
    ),
    "Put the texts into one prompt instead of combining conditionings.": (
        "请把文字写进同一个提示词，不要合并条件。"
    ),
    "The {name} conditioning asks for {what}, which Ovis Denoise does not support.": (
        "{name} 条件要求 {what}，Ovis 降噪不支持。"
    ),
    "Connect the conditioning without the node that adds it.": "请去掉添加它的节点，直接连接条件。",
    "The latent has the shape {shape}; Ovis-Image expects [batch, {channels}, height / 8, "
    "width / 8].": (
        "Latent 的形状是 {shape}，而 Ovis-Image 的是 [batch, {channels}, height / 8, width / 8]。"
    ),
    "Encode the image with Ovis VAE Encode or with FLUX.1's VAE.": (
        "请用“Ovis VAE 编码”或 FLUX.1 的 VAE 编码图像。"
    ),
    "With a cfg other than 1 Ovis Denoise needs a negative conditioning.": (
        "cfg 不为 1 时，Ovis 降噪需要负面条件。"
    ),
    "Connect an Ovis Prompt Encode with an empty prompt, or set cfg to 1.": (
        "请连接一个提示词为空的“Ovis 提示词编码”，或把 cfg 设为 1。"
    ),
    "`{name}` is not the name of an adapter.": "“{name}”不是适配器的名称。",
    "A job takes at most {most} adapters.": "一个任务最多使用 {most} 个适配器。",
    "Remove an Ovis LoRA, or merge some adapters into one file.": (
        "请删除一个 Ovis LoRA 节点，或把几个适配器合并为一个文件。"
    ),
    "a stack of adapters": "一组适配器",
    "Connect the output of an Ovis LoRA.": "请连接 Ovis LoRA 节点的输出。",
    "start is {start:g}, below end, {end:g}.": "start 为 {start:g}，小于 end 的 {end:g}。",
    "numbers with commas, one for each block": "以逗号分隔的数字，每个块一个",
    "The adapter `{name}` has no picture.": "适配器“{name}”没有预览图。",
    "guidance_start is {start:g}, below guidance_end, {end:g}.": (
        "guidance_start 为 {start:g}，小于 guidance_end 的 {end:g}。"
    ),
    "Sigmas descend from 1 to 0 while an image is made: set the larger value as the start.": (
        "生成图像时 sigma 从 1 降到 0：请把较大的值作为起点。"
    ),
    "The sigmas do not descend within 1 to 0, as those of a flow model do.": (
        "这些 sigma 应在 1 到 0 之间递减，与流匹配模型一致。"
    ),
    "Create them with a BasicScheduler whose model is Ovis-Image or FLUX.1.": (
        "请用模型为 Ovis-Image 或 FLUX.1 的 BasicScheduler 生成。"
    ),
    "The sampler {name} has options that Ovis Denoise does not support: {what}.": (
        "采样器 {name} 带有 Ovis 降噪不支持的选项：{what}。"
    ),
    "Use the sampler without these options.": "请去掉采样器的这些选项。",
    "Ovis Denoise has no equivalent of the connected sampler {name}.": (
        "Ovis 降噪没有与所连接的 {name} 对应的采样器。"
    ),
    "Choose one of: {names}.": "请从中选择：{names}。",
    # Contact sheets
    "The contact sheet would have {count} images; the maximum is {most}.": (
        "样张页会有 {count} 张图像，最多为 {most} 张。"
    ),
    "Shorten one of the lists, or make a second sheet.": "请缩短其中一个列表，或另做一页。",
    "The list of {name} is empty.": "{name} 的列表是空的。",
    "Write numbers such as: 0, 1, 2.": "请填写数字，例如：0, 1, 2。",
    "`{piece}` is not a valid value for {name}, which are from {least} to {most}.": (
        "“{piece}”不是有效的 {name}，应在 {least} 到 {most} 之间。"
    ),
    "Write whole numbers and ranges, such as: 1, 2, 10-13.": (
        "请填写整数和范围，例如：1, 2, 10-13。"
    ),
    "`{piece}` is not a valid {name} from {least:g} to {most:g}.": (
        "“{piece}”不是有效的 {name}，应在 {least:g} 到 {most:g} 之间。"
    ),
    "Write numbers, such as: 3, 5, 7.5.": "请填写数字，例如：3, 5, 7.5。",
    "Write the smaller number of a range first, as in 10-13.": "范围应从小到大，例如 10-13。",
    "The contact sheet would have {width} × {height} pixels; the maximum is {most} in each "
    "direction.": ("样张页会有 {width} × {height} 像素，每边最多为 {most}。"),
    "Set a smaller cell_size.": "请把 cell_size 设小一些。",
    # House templates
    "There is no house template `{name}`.": "这里没有名为“{name}”的模板。",
    "Put {name}.json into the folder {folder} in ComfyUI's user folder, or choose another "
    "template.": "请把 {name}.json 放进 ComfyUI 用户文件夹中的 {folder} 文件夹，或选择其他模板。",
    "The house template `{name}` ({path}) {why}.": "模板“{name}”（{path}）{why}。",
    "is larger than 64 KiB": "超过 64 KiB",
    "cannot be read: {why}": "无法读取：{why}",
    "is not a file": "不是文件",
    "is not a JSON object": "不是 JSON 对象",
    "has no `prompt`, which must be a text or a list of texts": (
        "缺少 `prompt`，它应是文本或文本列表"
    ),
    "has a `negative`, `about` or `defaults` that is not text": (
        "的 `negative`、`about` 或 `defaults` 不是文本"
    ),
    "uses an unknown box, `{box}`": "使用了不存在的栏 `{box}`",
    'The format is {{"prompt": [TEXT], "negative": TEXT, "about": TEXT, "defaults": {{BOX: '
    "TEXT}}}}; only the prompt is required, and the boxes are {boxes}.": (
        '格式为 {{"prompt": [TEXT], "negative": TEXT, "about": TEXT, "defaults": {{BOX: TEXT}}}}，'
        "其中只有 prompt 是必需的；可用的栏有 {boxes}。"
    ),
    # Workers' settings
    "This workflow runs on a worker called `{label}`, which is not set up here.": (
        "未找到名为“{label}”的 Ovis 服务：这个工作流要使用它，但此处没有设置它。"
    ),
    'Choose `{default}`, or describe it in {path}: {{"workers": {{"{label}": '
    '{{"url": "ws://HOST:7867", "token": "..."}}}}}}': (
        '请选择“{default}”，或在 {path} 中描述它：{{"workers": {{"{label}": '
        '{{"url": "ws://HOST:7867", "token": "..."}}}}}}'
    ),
    "`{url}` is not a worker's address: {why}.": "“{url}”不是 Ovis 服务的地址：{why}。",
    "Write it as HOST:PORT, ws://HOST:PORT or wss://HOST:PORT.": (
        "请写成 HOST:PORT、ws://HOST:PORT 或 wss://HOST:PORT。"
    ),
    "`{scheme}` is not a supported scheme": "不支持协议“{scheme}”",
    "the host is missing": "缺少主机名",
    "it contains a space": "其中有空格",
    "`{host}` is not an IPv6 address": "“{host}”不是 IPv6 地址",
    "`{host}` is not a valid host name": "“{host}”不是主机名",
    "`{port}` is not a port from 1 to 65535": "“{port}”不是端口，端口为 1 到 65535",
    "The hidden login belongs to another host, and is not used for this one.": (
        "地址中的登录信息被隐藏了，而且属于另一台主机。"
    ),
    "Correct the file, or restore {backup}, which has the settings before the last change.": (
        "请修正该文件，或恢复 {backup}，即上次修改之前的设置。"
    ),
    "Nothing was changed. Allow the user that runs ComfyUI to write to that folder, and save "
    "again.": ("没有保存任何改动。请允许运行 ComfyUI 的用户写入该文件夹，然后重新保存。"),
    "The worker settings in {path} cannot be read: {why}.": "无法读取 {path} 中的设置：{why}。",
    "The worker settings in {path} cannot be written: {why}.": "无法写入 {path} 中的设置：{why}。",
    "The entry of the worker `{label}` in {path} is invalid.": (
        "无法解析 {path} 中的 Ovis 服务“{label}”。"
    ),
    'The format is {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, "args": [TEXT], '
    '"fingerprint": TEXT, "vram": TEXT, "patience": SECONDS, "free": true or false}}; all fields '
    "are optional.": (
        '格式为 {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, "args": [TEXT], '
        '"fingerprint": TEXT, "vram": TEXT, "patience": SECONDS, "free": true 或 false}}，'
        "每一项都可以省略。"
    ),
    "`{label}` is not a valid label for a worker.": "“{label}”不能用作 Ovis 服务的标签。",
    "Use up to 40 letters, digits, dots, hyphens and underscores.": (
        "请使用不超过 40 个字母、数字、点、连字符和下划线。"
    ),
    "A worker's settings are the texts {names}.": "Ovis 服务的设置项应为文本：{names}。",
    "There are no settings for a worker called `{label}`.": "没有名为“{label}”的 Ovis 服务的设置。",
    "`{vram}` is not an amount of GPU memory.": "“{vram}”不是显存大小。",
    "Enter one such as 12GiB, or leave the field empty to use what is free.": (
        "请填写如 12GiB 的大小，或留空以使用全部空闲显存。"
    ),
    "There is no program {path}.": "找不到程序 {path}。",
    "Enter the full path of the ovis-worker binary on the machine that ComfyUI runs on.": (
        "请填写 ovis-worker 程序文件在运行 ComfyUI 的机器上的完整路径。"
    ),
    "The path {path} does not exist.": "路径不存在：{path}。",
    "Enter the folder or file with the weights, or leave the field empty to use ComfyUI's "
    "models folder.": "请填写权重所在的文件夹或文件；留空则使用 ComfyUI 自己的 models 文件夹。",
    "ComfyUI has no user folder to keep settings in.": "ComfyUI 没有可以保存设置的用户文件夹。",
    # Asking the pack's routes
    "Only JSON is accepted here.": "这里只接受 JSON。",
    "The request is not JSON.": "请求不是 JSON。",
    "The request is not a JSON object.": "请求不是 JSON 对象。",
    "This request comes from another web page.": "该请求来自其他网页。",
    "The host name in this request does not belong to this machine.": "该请求中的主机名不是本机。",
    "Settings that name programs or contain secrets can be changed only in a browser on the "
    "machine that ComfyUI runs on, or in ovis_worker.json there. Programs can be started and "
    "stopped only there.": (
        "涉及程序和密钥的设置，只能在运行 ComfyUI 的机器上的浏览器中修改，或修改那里的 "
        "ovis_worker.json；程序也只能在那里启动和停止。"
    ),
    "From another machine, only {names} can be changed.": "从其他机器上只能修改 {names}。",
    "Programs and paths are set in a browser on the machine that ComfyUI runs on, or in "
    "ovis_worker.json there.": (
        "程序和路径请在运行 ComfyUI 的机器上的浏览器中设置，或在那里的 ovis_worker.json 中设置。"
    ),
    "{address} is an address of ComfyUI's own machine, which can be set only there.": (
        "{address} 是运行 ComfyUI 的机器自己的地址，只能在那里设置。"
    ),
    "Enter the address of another machine, under a label of its own.": (
        "请用单独的标签填写其他机器的地址。"
    ),
    "The worker `{label}` is set by environment variables.": (
        "名为“{label}”的 Ovis 服务由环境变量设定。"
    ),
    "Add a worker with another label.": "请用另一个标签添加 Ovis 服务。",
    "The settings of the worker `{label}` name a program, a path or arguments.": (
        "名为“{label}”的 Ovis 服务的设置中有程序、路径或参数。"
    ),
    "Change or remove them in a browser on the machine that ComfyUI runs on.": (
        "请在运行 ComfyUI 的机器上的浏览器中修改或删除。"
    ),
    "{name} ({size:g} GB) is missing: download it from {url} into {folder}.": (
        "缺少 {name}（{size:g} GB）：请从 {url} 下载到 {folder}。"
    ),
    "None of the weights of Ovis-Image is in ComfyUI's folders, so a worker that the nodes "
    "start draws with its demo model. The note in each workflow says what to download.": (
        "ComfyUI 的文件夹中没有 Ovis-Image 的任何权重，"
        "因此由节点启动的 Ovis 服务用自带的演示模型绘图。"
        "每个工作流中的便签都写明了要下载什么。"
    ),
    "The request is larger than {most} KiB.": "请求超过 {most} KiB。",
    "Advice needs a prompt, and steps and cfg as numbers.": (
        "建议需要提示词，以及数值形式的 steps 和 cfg。"
    ),
    "The boxes of a template must contain texts.": "模板的各栏应填写文本。",
    "A page must send its id and its language.": "页面应提供编号和语言。",
}
