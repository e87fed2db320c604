"""Signals without the trigger: does a candidate still hold a backdoor that the given networks share?"""
