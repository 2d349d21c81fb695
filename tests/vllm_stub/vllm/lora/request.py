"""What names the adapter of a request."""

from pathlib import Path

from vllm.names import check_names


class LoRARequest:
    def __init__(self, **arguments):
        check_names(arguments, "LoRARequest")
        self.lora_name = arguments["lora_name"]
        self.lora_path = arguments["lora_path"]
        assert arguments["lora_int_id"] > 0
        assert Path(self.lora_path, "adapter_config.json").is_file()
