"""When something is due: the file of configuration checks what people write by it, and the agent goes by it.

due.py     by a rhythm or cron: schedules, and what is due now
window.py  the times in which runs may begin
rules.py   what a schedule may say

It needs the extra `agent` (cronsim).
"""
